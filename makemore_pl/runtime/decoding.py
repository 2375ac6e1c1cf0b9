"""How a character is drawn from logits, and names character by character: what every exported file must do.

Notation: n names, V vocabulary size, T block size, P positions of a context (T, or T + 1 where a label comes
first: its number l is the id V + l), p prefix length. Every probability is computed in
float64, so that a draw depends on the logits alone and not on the order of a float32 sum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from makemore_pl.options import check_limits, option
from makemore_pl.vocabulary import BOUNDARY

NextLogits = Callable[[NDArray[np.int64]], NDArray[np.floating[Any]]]
"""context int64 (n, P) -> logits (n, V), float32 or float64."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How the model's distribution is bent before a character is drawn.

    Raises:
        RequestError: a value out of its range.
    """

    temperature: float = option(
        1.0,
        "below 1 more usual names, above 1 stranger ones, 0 the likeliest character each time",
        at_least=0,
        at_most=1e30,  # all characters are equally likely long before
    )
    top_k: int = option(0, "draw among the k likeliest characters, ties included; 0: all", at_least=0)
    top_p: float = option(
        1.0,
        "draw among the fewest characters that together reach p, ties included; 1: all",
        above=0,
        at_most=1,
    )
    min_length: int = option(1, "fewest characters of a name, the prefix included", at_least=0)

    def __post_init__(self) -> None:
        check_limits(self)

    @property
    def bends(self) -> bool:
        """True where temperature, top-k or top-p change the distribution."""
        return self.temperature != 1 or self.top_k > 0 or self.top_p < 1


def draw(
    logits: NDArray[np.floating[Any]], uniforms: NDArray[np.float32], decoding: Decoding, length: int
) -> NDArray[np.int64]:
    """One character for each row: the smallest id whose cumulative probability exceeds the uniform.

    Args:
        logits: float32 or float64 (n, V).
        uniforms: float32 (n,), in [0, 1).
        decoding: temperature, top-k, top-p, minimal length.
        length: characters that the names already have.

    Returns:
        Ids, int64 (n,).
    """
    scores = logits.astype(np.float64)
    if length < decoding.min_length:
        scores[:, BOUNDARY] = -np.inf
    weights = np.exp(bend(scores, decoding))  # (n, V), not yet normalised
    cumulative = weights.cumsum(axis=1)
    target = uniforms.astype(np.float64)[:, None] * cumulative[:, -1:]
    drawn: NDArray[np.int64] = (cumulative <= target).sum(axis=1)
    return drawn


def bend(scores: NDArray[np.float64], decoding: Decoding) -> NDArray[np.float64]:
    """Apply temperature, top-k and top-p.

    Args:
        scores: logits, float64 (n, V); may be overwritten.
        decoding: temperature, top-k, top-p.

    Returns:
        Logarithms of weights, float64 (n, V): 0 for the likeliest id, -inf for those that are never drawn.
    """
    # Shifted first: a tiny temperature then cannot overflow.
    shifted: NDArray[np.float64] = scores - scores.max(axis=1, keepdims=True)
    temperature = np.float32(decoding.temperature)  # the contract's
    if temperature == 0:
        shifted[:] = -np.inf
        shifted[np.arange(len(scores)), scores.argmax(axis=1)] = 0
        return shifted
    if 0 < decoding.top_k < scores.shape[1]:
        kth_largest = -np.partition(-scores, decoding.top_k - 1, axis=1)[:, decoding.top_k - 1]
        shifted[scores < kth_largest[:, None]] = -np.inf
    with np.errstate(over="ignore"):
        shifted /= np.float64(temperature)
    if decoding.top_p < 1:
        weights = np.exp(shifted)
        shifted[weights < _nucleus_threshold(weights, np.float64(np.float32(decoding.top_p)))] = -np.inf
    return shifted


def _nucleus_threshold(weights: NDArray[np.float64], top_p: np.float64) -> NDArray[np.float64]:
    """Smallest weight inside the nucleus of each row (n, 1), after Holtzman et al. 2020."""
    falling = -np.sort(-weights, axis=1)
    before = falling.cumsum(axis=1) - falling  # weight of all likelier characters
    inside = before < top_p * weights.sum(axis=1, keepdims=True)
    last_inside = np.maximum(inside.sum(axis=1) - 1, 0)
    threshold: NDArray[np.float64] = np.take_along_axis(falling, last_inside[:, None], axis=1)
    return threshold


def log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """log p of each id in nats: (n, V) -> float64 (n, V)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def sample_stepwise(
    next_logits: NextLogits,
    block_size: int,
    uniforms: NDArray[np.float32],
    prefix: NDArray[np.int64],
    decoding: Decoding,
    label_ids: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Names drawn one character at a time, all names together, from any model of the next character.

    Args:
        next_logits: context int64 (n, P) -> logits (n, V).
        block_size: T.
        uniforms: float32 (n, steps) in [0, 1), the only randomness: one draw per character.
        prefix: int64 (p,), ids at the start of every name.
        decoding: how each character is drawn.
        label_ids: int64 (n,), of each name; None where there are no labels.

    Returns:
        tokens int64 (n, length), 0 after the end, as long as the longest name; and log_prob
        float32 (n,), nats under the plain model, of all characters and of the boundary if it was drawn.
    """
    n, steps = uniforms.shape
    p = len(prefix)
    labels = np.empty((n, 0), dtype=np.int64) if label_ids is None else label_ids[:, None]  # (n, P - T)
    row = np.full((n, block_size + p + steps), BOUNDARY, dtype=np.int64)
    row[:, block_size : block_size + p] = prefix
    log_prob = prefix_log_prob(next_logits, block_size, prefix, labels)
    active = np.arange(n)  # names still growing, a of them
    for step in range(steps):
        if len(active) == 0:
            break
        at = block_size + p + step  # the column to be drawn
        context = np.concatenate([labels[active], row[active, at - block_size : at]], axis=1)  # (a, P)
        logits = next_logits(context)  # (a, P) -> (a, V)
        drawn = draw(logits, uniforms[active, step], decoding, p + step)  # (a, V) -> (a,)
        row[active, at] = drawn
        log_prob[active] += log_softmax(logits)[np.arange(len(active)), drawn]
        active = active[drawn != BOUNDARY]
    tokens = row[:, block_size:]
    longest = int((tokens != BOUNDARY).sum(axis=1).max(initial=0))
    return tokens[:, :longest], log_prob.astype(np.float32)


def prefix_log_prob(
    next_logits: NextLogits, block_size: int, prefix: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """log p of the prefix in nats, float64 (n,), of names with these labels (n, P - T)."""
    if len(prefix) == 0:
        return np.zeros(len(labels))
    padded = np.concatenate([np.full(block_size, BOUNDARY), prefix])
    contexts = sliding_window_view(padded, block_size)[:-1]  # (p, T)
    different, label_of = np.unique(labels, axis=0, return_inverse=True)
    log_prob = np.zeros(len(different))
    for i, label in enumerate(different):
        before = np.broadcast_to(label, (len(prefix), len(label)))
        log_probs = log_softmax(next_logits(np.concatenate([before, contexts], axis=1)))  # (p, V)
        log_prob[i] = log_probs[np.arange(len(prefix)), prefix].sum()
    return log_prob[label_of.reshape(-1)]
