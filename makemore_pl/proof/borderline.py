"""Draws close to the border between two characters: can rounding of the logits explain which was drawn?

Every logit may be off by a tolerance. That bounds each character's weight from both sides; by the order of
the bounds, also whether top-k and top-p keep it; by their sums, the cumulative probabilities, between which
the uniform must lie. All bounds are taken at once, so that no rounding is missed: neither a character hardly
ever drawn, whose interval is narrower than the rounding, nor a tie for the last place of the k likeliest.

Notation: V vocabulary size; weights are proportional to probabilities.
"""

import numpy as np
from numpy.typing import NDArray

from makemore_pl.runtime.decoding import Decoding
from makemore_pl.vocabulary import BOUNDARY

Array = NDArray[np.float64]


def could_draw(
    logits: Array, uniform: float, drawn: int, decoding: Decoding, length: int, tolerance: float
) -> bool:
    """True if some logits within the tolerance make `draw` take `drawn`.

    Args:
        logits: float64 (V,), of the reference.
        uniform: in [0, 1).
        drawn: id.
        decoding: temperature, top-k, top-p, minimal length.
        length: characters that the name already has.
        tolerance: largest deviation of a logit.
    """
    low, high, _ = _weights(logits, decoding, length, tolerance)
    if high[drawn] == 0:
        return False
    before, after = slice(0, drawn), slice(drawn + 1, None)
    # Its interval begins lowest where all before it are as light, and all else as heavy, as can be.
    begins = low[before].sum() / (low[before].sum() + high[drawn] + high[after].sum())
    up_to = high[before].sum() + high[drawn]
    ends = up_to / (up_to + low[after].sum())
    return bool(begins - 1e-12 <= uniform <= ends + 1e-12)  # float64's own rounding


def has_tie(logits: Array, decoding: Decoding, length: int, tolerance: float) -> bool:
    """True if the ids that may be drawn depend on deviations within the tolerance; arguments as `could_draw`.

    Then all draws after this context may differ, and not only those whose uniform is close to a border.
    """
    return _weights(logits, decoding, length, tolerance)[2]


def _weights(logits: Array, decoding: Decoding, length: int, tolerance: float) -> tuple[Array, Array, bool]:
    """The smallest and the largest weight of each id, (V,) each; and whether ids tie for a place in the draw.

    A weight is 0 where temperature, top-k or top-p leave the id out.
    """
    scores = logits.copy()
    if length < decoding.min_length:
        scores[BOUNDARY] = -np.inf
    low, high = scores - tolerance, scores + tolerance
    temperature = np.float64(np.float32(decoding.temperature))
    if temperature == 0:
        likeliest = (high >= low.max()).astype(np.float64)  # one of these alone, whatever the uniform
        has_tie = bool(likeliest.sum() > 1)
        return np.zeros_like(low) if has_tie else likeliest, likeliest, has_tie
    surely, possibly = _among_the_likeliest(low, high, decoding.top_k)
    has_tie = bool((possibly & ~surely).any())
    with np.errstate(over="ignore"):  # a tiny temperature: a weight of 0
        low, high = (np.exp(np.minimum((x - scores.max()) / temperature, 700)) for x in (low, high))
    low, high = np.where(surely, low, 0.0), np.where(possibly, high, 0.0)
    if decoding.top_p < 1:
        surely, possibly = _in_the_nucleus(low, high, np.float64(np.float32(decoding.top_p)))
        has_tie = has_tie or bool((possibly & ~surely & (high > 0)).any())
        low, high = np.where(surely, low, 0.0), np.where(possibly, high, 0.0)
    return low, high, has_tie


def _among_the_likeliest(low: Array, high: Array, k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Ids that are surely, and possibly, among the k likeliest or tied with the last of them: (V,) each."""
    if not 0 < k < len(low):
        return np.ones(len(low), dtype=bool), np.ones(len(low), dtype=bool)
    falling_low, falling_high = -np.sort(-low), -np.sort(-high)
    # Surely: fewer than k others can come before it. It is itself among the first k of `high`.
    surely = (low >= falling_high[k]) & (high >= falling_high[k - 1])
    possibly = high >= falling_low[k - 1]
    return surely, possibly


def _in_the_nucleus(low: Array, high: Array, p: np.float64) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Ids that surely, and possibly, have less than a share of p of all weight before them: (V,) each."""
    least_before = _weight_above(low, low, high)
    most_before = _weight_above(high, np.nextafter(high, np.inf), low) - high  # of others
    surely = most_before < p * low.sum()
    possibly = least_before < p * high.sum()
    return surely, possibly


def _weight_above(weights: Array, of: Array, bounds: Array) -> Array:
    """(V,): sum of those `weights` whose value `of` is above each bound."""
    order = np.argsort(of)
    rising = of[order]
    total_from = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)  # weight at and after each place
    above: Array = total_from[np.searchsorted(rising, bounds, side="right")]
    return above
