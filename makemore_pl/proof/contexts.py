"""The contexts on which two forms of a model are compared: all of them, wherever that is feasible.

Notation: V vocabulary size, T block size, P positions; a context is a row of P ids, see `ContextSpace`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from makemore_pl.context_space import ContextSpace
from makemore_pl.data.corpus import SPLITS
from makemore_pl.errors import DataError
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.runs.checkpoint import Checkpoint

MAX_EXHAUSTIVE = 1 << 21
"""Up to this many contexts all are compared: 128 characters at block size 3, seconds of work."""
RANDOM_CONTEXTS = 1_000_000
"""Beyond that, this many random contexts are compared besides those of the corpus, ..."""
RANDOM_LOGITS = 1 << 28
"""... or fewer in a large vocabulary: as many logits as 2^21 contexts of 128 characters have, ..."""
RANDOM_PRODUCTS = 1 << 40
"""... or in a large network: so many multiplications take about a minute for each form."""
MOST_OF_CORPUS = 1 << 21
"""About this many contexts of the training list are compared: all, unless there are millions of names."""
EXAMPLES_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class ContextSet(ContextSpace):
    """Contexts to be compared, produced in chunks so that memory does not grow with their number.

    Attributes:
        corpus: the contexts that occur in the training list, int (n, P); used when not all are compared.
        widest: numbers in the widest layer, for one context; V if the network has none wider.
        n_weights: multiplications for one context.
        list_missing: contexts of the list were wanted, but the list is gone or has changed.
    """

    corpus: NDArray[np.integer] = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))
    widest: int = 0
    n_weights: int = 1
    list_missing: bool = False

    @property
    def exhaustive(self) -> bool:
        return self.total <= MAX_EXHAUSTIVE

    @property
    def n_random(self) -> int:
        return min(RANDOM_CONTEXTS, RANDOM_LOGITS // self.vocab_size, RANDOM_PRODUCTS // self.n_weights)

    def __len__(self) -> int:
        """Number of contexts compared."""
        return self.total if self.exhaustive else len(self.corpus) + self.n_random

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """Contexts int64 (n, P), together `len(self)` of them."""
        # A layer's values for one chunk, n * H float64, stay within 4 MiB, which a processor's cache holds.
        size = min(16_384, max(16, (1 << 19) // max(self.vocab_size, self.widest)))
        if self.exhaustive:
            for start in range(0, self.total, size):
                yield self.contexts(np.arange(start, min(start + size, self.total)))
            return
        for start in range(0, len(self.corpus), size):
            yield self.corpus[start : start + size].astype(np.int64)
        generator = np.random.default_rng(0)
        for start in range(0, self.n_random, size):
            n = min(size, self.n_random - start)
            characters = generator.integers(self.vocab_size, size=(n, self.block_size), dtype=np.int64)
            labels = generator.integers(max(1, self.n_labels), size=(n, self.n_label_columns), dtype=np.int64)
            yield np.concatenate([labels + self.vocab_size, characters], axis=1)


def contexts_to_compare(checkpoint: Checkpoint, model: BatchNormMLP) -> ContextSet:
    """All contexts of a checkpoint's model, or where these are too many, its list's and random ones."""
    contexts = ContextSet(model.vocab_size, model.block_size, model.n_labels)
    widest = max(model.width, len(contexts.sizes) * model.n_embd)
    contexts = replace(contexts, widest=widest, n_weights=model.n_parameters)
    if contexts.exhaustive:
        return contexts
    corpus = corpus_contexts(checkpoint)
    return replace(contexts, corpus=corpus, list_missing=len(corpus) == 0)


def corpus_contexts(checkpoint: Checkpoint) -> NDArray[np.integer]:
    """The different contexts of the training list, (n, P); none where the list is gone or changed.

    Of a list that has more than `MOST_OF_CORPUS`, at least this many.
    """
    n_positions = checkpoint.data_arguments["block_size"] + bool(checkpoint.labels)
    found = np.empty((0, n_positions), dtype=np.uint8)
    try:
        data = checkpoint.open_list()
    except DataError:
        return found
    for split in SPLITS:
        n_places = len(data.corpus.streams[split])
        for places in torch.split(torch.arange(n_places), EXAMPLES_AT_A_TIME):
            if len(found) < MOST_OF_CORPUS:
                contexts, _ = data.windows(split, places)
                found = np.unique(np.concatenate([found, contexts.numpy()]), axis=0)
    return found
