"""The contexts that a network reads: the last T characters and, in a list with labels, a label before them.

A label is one more position of the context, with a vocabulary and an embedding of its own. Its ids follow
those of the characters: label number l has id V + l, and stands in column 0. Nothing else changes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ContextSpace:
    """All contexts there are, numbered. P is T, or T + 1 with labels.

    Attributes:
        vocab_size: V.
        block_size: T.
        n_labels: L; 0 where names have no labels.
    """

    vocab_size: int
    block_size: int
    n_labels: int = 0

    @property
    def sizes(self) -> list[int]:
        """The number of ids that each of the P positions may hold."""
        return [self.n_labels] * self.n_label_columns + [self.vocab_size] * self.block_size

    @property
    def first_ids(self) -> NDArray[np.int64]:
        """int64 (P,): the smallest id of each position."""
        return np.array([self.vocab_size] * self.n_label_columns + [0] * self.block_size, dtype=np.int64)

    @property
    def n_label_columns(self) -> int:
        """P - T: 1 where a label is the first position, else 0."""
        return int(self.n_labels > 0)

    @property
    def total(self) -> int:
        """V^T, or L * V^T: the contexts there are, exact however many."""
        return math.prod(self.sizes)

    @property
    def factors(self) -> NDArray[np.int64]:
        """int64 (P,): what each position counts in a context's number; counting walks through all."""
        return np.array([math.prod(self.sizes[i + 1 :]) for i in range(len(self.sizes))], dtype=np.int64)

    def contexts(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The contexts of these numbers: int64 (B,) -> int64 (B, P)."""
        return numbers[:, None] // self.factors % self.sizes + self.first_ids

    def numbers(self, contexts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of these contexts: int64 (B, P) -> int64 (B,)."""
        numbers: NDArray[np.int64] = (contexts - self.first_ids) @ self.factors
        return numbers
