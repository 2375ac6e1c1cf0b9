"""How often the names of a corpus count."""

import numpy as np
from numpy.typing import NDArray

from makemore_pl.data.corpus import Corpus, Stream
from makemore_pl.vocabulary import BOUNDARY


def example_weights(corpus: Corpus, split: str, power: float) -> NDArray[np.float64] | None:
    """Weights of a split's names, float64 (names,), such that their examples have 1 on average.

    So a loss keeps its size, and with it what learning rate and weight decay mean.

    Args:
        corpus: the list.
        split: one of SPLITS.
        power: that the weights are raised to.

    Returns:
        None where all names count alike: the list has no weights, or the power is 0.
    """
    if split not in corpus.weights or power == 0:
        return None
    weights: NDArray[np.float64] = corpus.weights[split] ** power
    lengths = np.diff(name_ends(corpus.streams[split]), prepend=-1)  # with the boundary: examples of a name
    weights *= lengths.sum() / (weights * lengths).sum()
    return weights


def label_shares(corpus: Corpus, power: float) -> list[float]:
    """The share of each label in the names that are trained on, by weight; empty without labels."""
    if not corpus.labels:
        return []
    weights = corpus.weights["train"] ** power if corpus.weights else None
    totals = np.bincount(corpus.label_ids["train"], weights, minlength=len(corpus.labels))
    shares: list[float] = (totals / totals.sum()).tolist()
    return shares


def name_ends(stream: Stream) -> NDArray[np.int64]:
    """The place of each name's boundary, int64 (names,)."""
    return np.flatnonzero(stream == BOUNDARY)
