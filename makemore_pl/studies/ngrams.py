"""Counting in place of training: unigrams, bigrams and longer, as the floor that a network has to beat."""

import math

import torch
from torch import Tensor

from makemore_pl.data.batches import Windows


def ngram_probabilities(examples: Windows, n_context: int, vocab_size: int, smoothing: float = 1.0) -> Tensor:
    """Probability of each character after each context, from counts.

    Args:
        examples: contexts int64 (N, T) and targets int64 (N,) to count in.
        n_context: characters that the next one depends on: 0 for unigrams, 1 for bigrams, at most T.
        vocab_size: V.
        smoothing: added to every count, so that nothing is impossible (Laplace's rule for 1).

    Returns:
        float64 (V^n_context, V); row i belongs to the context whose ids are i's digits in base V.
    """
    contexts, targets = examples
    cells = _rows(contexts, n_context, vocab_size) * vocab_size + targets  # (N,)
    counts = torch.bincount(cells, minlength=vocab_size ** (n_context + 1)).double() + smoothing
    counts = counts.view(-1, vocab_size)
    return counts / counts.sum(1, keepdim=True)


def ngram_nll(probabilities: Tensor, examples: Windows) -> float:
    """NLL of `examples` under the outcome of `ngram_probabilities`, nats per character."""
    contexts, targets = examples
    n_rows, vocab_size = probabilities.shape
    n_context = round(math.log(n_rows, vocab_size))
    return -probabilities[_rows(contexts, n_context, vocab_size), targets].log().mean().item()


def _rows(contexts: Tensor, n_context: int, vocab_size: int) -> Tensor:
    """The last `n_context` ids of each context as one number in base V, int64 (N,)."""
    rows = torch.zeros(len(contexts), dtype=torch.int64)
    for ids in contexts[:, contexts.shape[1] - n_context :].T:
        rows = rows * vocab_size + ids
    return rows
