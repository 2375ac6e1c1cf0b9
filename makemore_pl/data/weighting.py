"""Labels and weights of a corpus's names, as batches need them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from makemore_pl.data.corpus import Corpus, name_ends


def label_ids(corpus: Corpus, split: str) -> Tensor | None:
    """An id for each name's label, (names,) in the stream's type: V + its number; None without labels."""
    ids = corpus.label_ids.get(split)
    return None if ids is None else torch.from_numpy(ids) + len(corpus.vocabulary)


def example_weights(corpus: Corpus, split: str, power: float) -> Tensor | None:
    """Weights of a split's names, float64 (names,): raised to a power, and 1 on average over the examples.

    So a loss keeps its size, and with it what learning rate and weight decay mean. None where all names count
    alike: the list has no weights, or the power is 0.
    """
    if split not in corpus.weights or power == 0:
        return None
    weights: NDArray[np.float64] = corpus.weights[split] ** power
    lengths = np.diff(name_ends(corpus.streams[split]), prepend=-1)  # with the boundary: examples of a name
    weights *= lengths.sum() / (weights * lengths).sum()
    return torch.from_numpy(weights)


def label_shares(corpus: Corpus, power: float) -> list[float]:
    """The share of each label in the names that are trained on, by weight; empty without labels."""
    if not corpus.labels:
        return []
    weights = corpus.weights["train"] ** power if corpus.weights else None
    totals = np.bincount(corpus.label_ids["train"], weights, minlength=len(corpus.labels))
    shares: list[float] = (totals / totals.sum()).tolist()
    return shares


def unit_of_figures(corpus: Corpus, weighted: bool) -> str:
    """The unit of an NLL; where names have weights, also what counts once in it."""
    if not corpus.weights:
        return "nats per character"
    return f"nats per character, {'names counted by weight' if weighted else 'each name counted once'}"
