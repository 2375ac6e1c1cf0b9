"""`NamesDataModule`: train, dev and test batches of a list of names."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch

from makemore_pl.data.batches import BatchLoader, Windows, windows
from makemore_pl.data.corpus_cache import open_corpus
from makemore_pl.data.lists import find_list
from makemore_pl.data.training_loader import TrainingLoader
from makemore_pl.errors import CheckpointError, DataError
from makemore_pl.vocabulary import Vocabulary, describe_characters

DEVICE_BYTES = 1 << 30
"""Streams up to this size lie on the training device; of larger ones, batches are sent to it."""


class NamesDataModule(L.LightningDataModule):
    """Splits a list of names and feeds next-character examples.

    Args:
        path: a text file, one name per line; or `names`, the shipped list; or `makemore`, the lectures' list.
        block_size: context length T, in characters.
        batch_size: contexts per training step, over all devices together. A context stands for all its
            examples, up to 32 at a time, unless `merge` is off.
        eval_batch_size: contexts per evaluation step, over all devices together.
        merge: learn from equal contexts at once: the same loss for a fraction of the work.
        dedupe: keep each name once, so that no name stands in two splits.
        split_seed: seed of the 80/10/10 split.
        characters: the vocabulary; by default that of the list. A checkpoint's own is put here when it is
            tested on another list.

    Attributes:
        epoch_end, batches_per_pass: see `TrainingLoader`.
        epoch_length: from a position to the length of all epochs to come, if they have one.
        shuffle: give each pass an order of its own. `makemore fit` sets these four.

    Raises:
        DataError: the list cannot be read or has too few names, or a size is below 1.
    """

    def __init__(
        self,
        path: str = "names",
        block_size: int = 3,
        batch_size: int = 1024,
        eval_batch_size: int = 16384,
        merge: bool = True,
        dedupe: bool = True,
        split_seed: int = 42,
        characters: str | None = None,
    ) -> None:
        super().__init__()
        sizes = {"block_size": block_size, "batch_size": batch_size, "eval_batch_size": eval_batch_size}
        for name, value in sizes.items():
            if value < 1:
                raise DataError(f"data.{name} must be at least 1, not {value}")
        self.save_hyperparameters()
        self.block_size = block_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.merge = merge

        self.list = find_list(path)
        self.corpus = open_corpus(self.list, dedupe=dedupe, seed=split_seed)
        if characters:
            self.corpus = self.corpus.with_vocabulary(Vocabulary(characters))
        self.epoch_end: Callable[[int], int] | None = None
        self.epoch_length: Callable[[int], int | None] | None = None
        self.batches_per_pass: int | None = None
        self.shuffle = True
        self._training_pass: BatchLoader | None = None
        self._order_seed = torch.initial_seed()
        self._resumed_at = 0  # batches seen before this fit

    @property
    def vocabulary(self) -> Vocabulary:
        """The characters of the list, or those that were asked for."""
        return self.corpus.vocabulary

    @property
    def vocab_size(self) -> int:
        """V: the different characters, and the boundary."""
        return len(self.vocabulary)

    @property
    def n_examples(self) -> int:
        """Training examples: characters of the training split's names, and one end for each."""
        return len(self.corpus.streams["train"])

    labels: tuple[str, ...] = ()

    def windows(self, split: str, places: torch.Tensor) -> Windows:
        return windows(torch.from_numpy(self.corpus.streams[split]), places, self.block_size)

    def examples(self, split: str) -> Windows:
        """All contexts (N, T) and targets (N,) of `train`, `dev` or `test`, int64, in the stream's order."""
        contexts, targets = self.windows(split, torch.arange(len(self.corpus.streams[split])))
        return contexts.long(), targets.long()

    def setup(self, stage: str) -> None:
        """Agree on the seed of the training order. Lightning calls it on each rank."""
        # What seed_everything has set; without it ranks have seeds of their own, and rank 0's counts.
        seed = torch.initial_seed()
        self._order_seed = self.trainer.strategy.broadcast(seed) if self.trainer else seed

    def train_dataloader(self) -> TrainingLoader | BatchLoader:
        loader = self.training_pass()
        if self.trainer and getattr(self.trainer, "overfit_batches", 0) > 0:
            return loader  # its first batches, the same in each epoch
        loader.seed = self._order_seed if self.shuffle else None
        length = self.epoch_length(self.position) if self.epoch_length else None
        return TrainingLoader(loader, self.position, self.batches_per_pass, self.epoch_end, length)

    def val_dataloader(self) -> BatchLoader:
        return self._loader("dev", self.eval_batch_size)

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> BatchLoader:
        """Each example of the test split, in its order."""
        return self._loader("test", self.eval_batch_size, merged=False)

    def training_pass(self) -> BatchLoader:
        """This rank's share of the training split, once over; the same object at each call."""
        if self._training_pass is None:
            self._training_pass = self._loader("train", self.batch_size)
        return self._training_pass

    @property
    def position(self) -> int:
        """Training batches seen since the run began, before and after it was resumed."""
        seen = self.trainer.fit_loop.total_batch_idx + 1 if self.trainer else 0
        return max(seen, self._resumed_at)

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint must hold of its data: to be exported or tested without it, or resumed."""
        return {
            "characters": self.vocabulary.characters,
            "list_name": self.list.name,
            "list_sha256": self.list.sha256,
            "longest_name": self.corpus.longest_name,
            "order_seed": self._order_seed,
            "position": self.position,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after the batches that a checkpoint has seen.

        Raises:
            CheckpointError: its ids stand for other characters than this list's.
        """
        if state_dict["characters"] != self.vocabulary.characters:
            raise CheckpointError(
                f"the checkpoint knows {describe_characters(state_dict['characters'])}, the list "
                f"{self.list.name} has {describe_characters(self.vocabulary.characters)}"
            )
        self._order_seed = state_dict["order_seed"]
        self._resumed_at = state_dict["position"]

    def _loader(self, split: str, batch_size: int, merged: bool | None = None) -> BatchLoader:
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        stream = torch.from_numpy(self.corpus.streams[split])
        return BatchLoader(
            stream.to(device) if stream.nbytes <= DEVICE_BYTES else stream,
            self.block_size,
            batch_size,
            merged=self.merge if merged is None else merged,
            device=device,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
