"""The contexts on which two forms of a model are compared: all of them, wherever that can be done.

Notation: V vocabulary size, T block size; a context is a row of T ids.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_EXHAUSTIVE = 1 << 21
"""Up to so many contexts all are checked: 128 characters at block size 3, seconds of work."""
RANDOM_CONTEXTS = 1_000_000
"""Beyond that, this many random contexts are checked besides those of the corpus, ..."""
RANDOM_LOGITS = 1 << 28
"""... or fewer in a large vocabulary: as many logits as 2^21 contexts of 128 characters have."""


@dataclass(frozen=True)
class ContextSet:
    """Contexts to be checked, produced in chunks so that memory does not grow with their number.

    Attributes:
        vocab_size: V.
        block_size: T.
        corpus: the contexts that occur in the training list, int (n, T); used when not all are checked.
        seed: of the random contexts.
        most_random: how many random contexts are checked, at most, when not all are.
        widest: numbers in the widest layer, for one context; V if the network has none wider.
    """

    vocab_size: int
    block_size: int
    corpus: NDArray[np.integer] = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))
    seed: int = 0
    most_random: int = RANDOM_CONTEXTS
    widest: int = 0

    @property
    def total(self) -> int:
        """V^T, the contexts there are."""
        return math.prod([self.vocab_size] * self.block_size)

    @property
    def exhaustive(self) -> bool:
        return self.total <= MAX_EXHAUSTIVE

    @property
    def n_random(self) -> int:
        return min(self.most_random, RANDOM_LOGITS // self.vocab_size)

    def __len__(self) -> int:
        """How many are checked."""
        return self.total if self.exhaustive else len(self.corpus) + self.n_random

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """Contexts int64 (n, T), together `len(self)` of them."""
        # A layer's values for one chunk, n * V float64, stay within 32 MiB.
        size = min(16_384, max(16, (1 << 22) // max(self.vocab_size, self.widest)))
        if self.exhaustive:
            for start in range(0, self.total, size):
                yield self._enumerate(start, min(start + size, self.total))
            return
        for start in range(0, len(self.corpus), size):
            yield self.corpus[start : start + size].astype(np.int64)
        generator = np.random.default_rng(self.seed)
        for start in range(0, self.n_random, size):
            n = min(size, self.n_random - start)
            yield generator.integers(self.vocab_size, size=(n, self.block_size), dtype=np.int64)

    def _enumerate(self, start: int, end: int) -> NDArray[np.int64]:
        """Contexts number start … end-1 in the order of counting with digits of base V."""
        shape = (self.vocab_size,) * self.block_size
        return np.stack(np.unravel_index(np.arange(start, end), shape), axis=1).astype(np.int64)
