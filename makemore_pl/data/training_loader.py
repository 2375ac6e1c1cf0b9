"""Passes over the training examples, one after the other, cut into Lightning's epochs."""

from collections.abc import Callable, Iterator
from itertools import islice

from makemore_pl.data.batch import Batch
from makemore_pl.data.batches import BatchLoader


class TrainingLoader:
    """Pass after pass without end, cut into what Lightning calls epochs.

    Each iteration begins where the one before ended, and only the number of batches seen so far says where
    that is: so a run resumed from a checkpoint needs to know nothing else of its data.

    Args:
        loader: gives the passes.
        position: batches seen before the first iteration.
        batches_per_pass: the first so many batches of each pass are seen; None: all.
        epoch_end: from the position where an epoch begins to the one where it ends; None: a pass later.
        epoch_length: batches of an epoch, if all epochs have the same number.
    """

    def __init__(
        self,
        loader: BatchLoader,
        position: int = 0,
        batches_per_pass: int | None = None,
        epoch_end: Callable[[int], int] | None = None,
        epoch_length: int | None = None,
    ) -> None:
        self.loader = loader
        self.position = position
        self.batches_per_pass = batches_per_pass or len(loader)
        self.epoch_end = epoch_end or (lambda position: position + self.batches_per_pass)
        self.epoch_length = epoch_length if epoch_end else self.batches_per_pass
        self._batches = self._endless()

    def __len__(self) -> int:
        """Batches of an epoch, if all epochs have the same number."""
        if self.epoch_length is None:
            raise TypeError("epochs are of different lengths")  # Lightning then takes batches as they come
        return self.epoch_length

    def __iter__(self) -> Iterator[Batch]:
        end = self.epoch_end(self.position)
        while self.position < end:
            batch = next(self._batches)
            self.position += 1
            yield batch

    def _endless(self) -> Iterator[Batch]:
        number, first = divmod(self.position, self.batches_per_pass)
        while True:
            yield from islice(self.loader.one_pass(number, first), self.batches_per_pass - first)
            number, first = number + 1, 0
