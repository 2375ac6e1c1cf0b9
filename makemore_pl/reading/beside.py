"""The weights and labels of a list's names, gathered while the names are encoded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makemore_pl.reading.rows import Rows

Block = Rows | list[str]
"""Some names of a list, with or without weights and labels."""


class Gatherer:
    """Takes weights and labels out of the blocks of a list, on their way to the encoder."""

    def __init__(self) -> None:
        self.n_respelled = 0
        self._weights: list[NDArray[np.float64]] = []
        self._labels: list[NDArray[np.int32]] = []
        self._ids: dict[str, int] = {}  # of labels, in the order of first appearance

    def names(self, blocks: Iterable[Block]) -> Iterator[list[str]]:
        """The names of the blocks."""
        for block in blocks:
            rows = block if isinstance(block, Rows) else Rows(block)
            self.n_respelled += rows.n_respelled
            if rows.weights is not None:
                self._weights.append(np.array(rows.weights, dtype=np.float64))
            if rows.labels is not None:
                ids = [self._ids.setdefault(label, len(self._ids)) for label in rows.labels]
                self._labels.append(np.array(ids, dtype=np.int32))
            yield rows.names

    def beside(self) -> "Beside":
        """All that was gathered, once the names have been taken."""
        labels = sorted(self._ids)
        ids = None
        if labels:
            final_ids = np.argsort(np.argsort(list(self._ids)))  # the place of each among the sorted
            ids = final_ids[np.concatenate(self._labels)].astype(np.int32)
        return Beside(tuple(labels), ids, np.concatenate(self._weights) if self._weights else None)


@dataclass(frozen=True)
class Beside:
    """Weights and labels of a list's names.

    Attributes:
        labels: the different ones, sorted.
        label_ids: int32 (names,), places in `labels`; None without.
        weights: float64 (names,); None without.
    """

    labels: tuple[str, ...]
    label_ids: NDArray[np.int32] | None
    weights: NDArray[np.float64] | None

    def of_distinct(
        self, firsts: NDArray[np.integer], parts: list[NDArray[np.integer]]
    ) -> tuple["Beside", list[NDArray[np.integer]]]:
        """Add the weights of equal names up, and let each name be followed by itself with its other labels.

        Args:
            firsts: (names,), see `first_equals`.
            parts: numbers of distinct names, each the first of those that equal it.

        Returns:
            The same, each sum at the first name of all that have that label, and the parts with these.
        """
        if self.label_ids is None and self.weights is None:
            return self, parts
        keys = firsts.astype(np.int64)
        if self.label_ids is not None:
            keys = keys * len(self.labels) + self.label_ids
        _, numbers, equal_to = np.unique(keys, return_index=True, return_inverse=True)  # numbers by name
        weights = self.weights
        if weights is not None:
            sums = np.bincount(equal_to, weights)
            weights = np.zeros_like(weights)
            weights[numbers] = sums
        names = firsts[numbers]
        followed: list[NDArray[np.integer]] = []
        for part in parts:
            begin, end = np.searchsorted(names, part), np.searchsorted(names, part, side="right")
            ends = np.cumsum(end - begin)
            followed.append(numbers[np.repeat(end - ends, end - begin) + np.arange(ends[-1])])
        return Beside(self.labels, self.label_ids, weights), followed
