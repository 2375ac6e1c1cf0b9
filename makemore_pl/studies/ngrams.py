"""Counting in place of training: the rival that a network has to beat.

Interpolated modified Kneser-Ney (Chen & Goodman 1998), the best of the classic ways: it takes a little from
every count, and gives it to what the next shorter context says.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from makemore_pl.data.batches import Windows


def counting_nll(train: Windows, examples: Windows, n_context: int, vocab_size: int) -> float:
    """NLL of `examples` under counts of `train`, nats per character; arguments as of `kneser_ney`."""
    return float(-np.log(kneser_ney(train, examples, n_context, vocab_size)).mean())


def kneser_ney(train: Windows, examples: Windows, n_context: int, vocab_size: int) -> NDArray[np.float64]:
    """Probability of each example's target after its context, by interpolated modified Kneser-Ney.

    Shorter contexts do not count how often a character followed them, but after how many different characters
    in front of them it did: that is what matters where the longer context is new.

    Args:
        train: contexts int64 (N, T) and targets int64 (N,) to count in.
        examples: contexts (M, T) and targets (M,).
        n_context: characters that the next one depends on: 0 for unigrams, 1 for bigrams, at most T.
        vocab_size: V.

    Returns:
        float64 (M,).
    """
    contexts, targets = (torch.cat(both).numpy() for both in zip(train, examples, strict=True))  # (N + M, …)
    n_train = len(train[1])
    # Numbers for contexts of k characters and for grams, which are a context and its target: (N + M,) each.
    context = np.zeros(len(targets), dtype=np.int64)
    gram = _numbered(targets)
    probability = np.full(len(examples[1]), 1 / vocab_size)
    for k in range(n_context + 1):
        if k == n_context:
            counted = gram[:n_train]
        else:
            longer_context = _numbered(contexts[:, -1 - k] * len(contexts) + context)
            longer_gram = _numbered(longer_context * vocab_size + targets)
            _, first = np.unique(longer_gram[:n_train], return_index=True)
            counted = gram[first]  # every longer gram counts once
        counts = np.bincount(counted, minlength=gram.max() + 1)  # (grams,)
        discounts = _discounts(counts)[np.minimum(counts, 3)]  # (grams,)
        context_of = np.zeros_like(counts)  # (grams,)
        context_of[gram] = context
        total, left = (np.bincount(context_of, weights=x) for x in (counts, discounts))  # (contexts,)
        c, g = context[n_train:], gram[n_train:]
        seen = total[c] > 0  # an unknown context says what the shorter one says
        mixed = ((counts - discounts)[g] + left[c] * probability) / np.where(seen, total[c], 1)
        probability = np.where(seen, mixed, probability)
        if k < n_context:
            context, gram = longer_context, longer_gram
    return probability


def _numbered(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0 in place of values: the same for the same."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64, copy=False)


def _discounts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Taken from counts of 0, 1, 2, and 3 or more: float64 (4,) (Chen & Goodman 1998, eq. 17).

    Where too few grams were counted once, twice or three times, there is nothing to estimate them from; those
    counts are large, as those of single characters are, and hardly depend on it. But something must be left
    for what was never counted.
    """
    once, twice, thrice, four = (np.count_nonzero(counts == i) for i in (1, 2, 3, 4))
    if once and twice and thrice:
        y = once / (once + 2 * twice)
        estimates = [1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * four / thrice]
        if min(estimates) > 0:
            return np.array([0, *np.minimum(estimates, [1, 2, 3])])
    return np.array([0, 0.75, 0.75, 0.75])
