"""The draw of a character as ONNX nodes: `runtime/decoding.py` operator by operator.

All arithmetic from the logits on is in float64, as there. Notation: R rows (contexts), V vocabulary size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makemore_pl.graph.builder import GraphBuilder, Value

ROWS = np.array([1])
"""The axis along which each row is reduced."""


@dataclass(frozen=True)
class Bend:
    """The options that bend the distribution: inputs of the graph, and what follows from them.

    Attributes:
        temperature: float32 ().
        top_k: int64 ().
        top_p: float32 ().
        vocab_size: V.
    """

    temperature: Value
    top_k: Value
    top_p: Value
    vocab_size: int

    def is_off(self, g: GraphBuilder) -> Value:
        """bool (): draws follow the plain model."""
        unfiltered = g.And(
            g.LessOrEqual(self.top_k, np.int64(0)), g.GreaterOrEqual(self.top_p, np.float32(1))
        )
        return g.And(g.Equal(self.temperature, np.float32(1)), unfiltered)

    def keeps_k(self, g: GraphBuilder) -> Value:
        """bool (): top-k rules some characters out."""
        return g.And(g.Greater(self.top_k, np.int64(0)), g.Less(self.top_k, np.int64(self.vocab_size)))

    def keeps_p(self, g: GraphBuilder) -> Value:
        """bool (): top-p rules some characters out."""
        return g.Less(self.top_p, np.float32(1))


def add_weights(g: GraphBuilder, shifted: Value) -> Value:
    """exp of shifted logits, float64 (R, V), at most 0, as they are or divided by the temperature.

    Exactly 0 where NumPy's exp is, from -745.14 down. ONNX Runtime 1.20's does not fall below the smallest
    normal number, but a character that was ruled out must have no weight, or the uniform 0 would draw it.
    """
    # Above -745.14, exp(x) is the smaller of the two; Min is several times faster than Where.
    return g.Min(g.Exp(shifted), g.Relu(g.Add(shifted, np.float64(745.14))))


def add_shifted(g: GraphBuilder, scores: Value) -> tuple[Value, Value]:
    """scores float64 (R, V) minus the largest of each row, and that largest, (R, 1)."""
    largest = g.ReduceMax(scores, ROWS, keepdims=1)
    return g.Sub(scores, largest), largest


def add_log_softmax(g: GraphBuilder, logits: Value) -> Value:
    """log p in nats: logits float64 (R, V) -> float64 (R, V)."""
    shifted, _ = add_shifted(g, logits)
    return g.Sub(shifted, g.Log(g.ReduceSum(g.Exp(shifted), ROWS, keepdims=1)))


def add_bent_weights(g: GraphBuilder, scores: Value, bend: Bend) -> Value:
    """Weights of the characters under temperature, top-k and top-p: float64 (R, V) -> float64 (R, V)."""

    def likeliest(g: GraphBuilder) -> Sequence[Value]:
        first = g.ArgMax(scores, axis=1, keepdims=1)  # (R, V) -> (R, 1)
        return [g.cast(g.Equal(first, np.arange(bend.vocab_size)), np.float64)]  # (R, V)

    def tempered(g: GraphBuilder) -> Sequence[Value]:
        kept = g.choose(bend.keeps_k(g), lambda g: [_top_k(g, scores, bend)], lambda g: [scores])[0]
        shifted, _ = add_shifted(g, kept)  # before the division: so a tiny temperature cannot overflow
        weights = add_weights(g, g.Div(shifted, g.cast(bend.temperature, np.float64)))
        return g.choose(bend.keeps_p(g), lambda g: [_top_p(g, weights, bend)], lambda g: [weights])

    return g.choose(g.Equal(bend.temperature, np.float32(0)), likeliest, tempered)[0]


def _top_k(g: GraphBuilder, scores: Value, bend: Bend) -> Value:
    largest = g.node("TopK", [scores, g.Reshape(bend.top_k, np.array([1]))], 2, axis=1)[0]  # (R, k), falling
    kth = g.ReduceMin(largest, ROWS, keepdims=1)  # (R, k) -> (R, 1)
    return g.Where(g.Less(scores, kth), np.float64(-np.inf), scores)


def _top_p(g: GraphBuilder, weights: Value, bend: Bend) -> Value:
    """Rule out what is less likely than the last character of the nucleus (Holtzman et al. 2020)."""
    falling = g.node("TopK", [weights, np.array([bend.vocab_size])], 2, axis=1)[0]  # (R, V), sorted
    before = g.Sub(g.CumSum(falling, np.int64(1)), falling)  # weight of all likelier characters
    limit = g.Mul(g.cast(bend.top_p, np.float64), g.ReduceSum(weights, ROWS, keepdims=1))  # (R, 1)
    inside = g.cast(g.Less(before, limit), np.int64)
    last = g.Max(g.Sub(g.ReduceSum(inside, ROWS, keepdims=1), np.int64(1)), np.int64(0))  # (R, 1)
    threshold = g.GatherElements(falling, last, axis=1)  # (R, 1)
    return g.Where(g.Less(weights, threshold), np.float64(0), weights)


def add_without_boundary(g: GraphBuilder, scores: Value, vocab_size: int) -> Value:
    """scores float64 (R, V) with the boundary ruled out."""
    return g.Add(scores, np.array([-np.inf] + [0.0] * (vocab_size - 1)))  # its id is 0


def add_draw(g: GraphBuilder, weights: Value, uniforms: Value, vocab_size: int) -> tuple[Value, Value]:
    """Draw the smallest id whose cumulative weight exceeds uniform * total.

    Args:
        weights: float64 (R, V), not normalised.
        uniforms: float32 (R, 1); below 0 draws the boundary.

    Returns:
        Ids int64 (R,), from 0 to V-1 whatever the inputs hold; and the totals, float64 (R, 1).
    """
    cumulative, total = _cumulative(g, weights, vocab_size)
    target = g.Mul(g.cast(uniforms, np.float64), total)  # (R, 1)
    # The last sum is the total, which no target below it reaches: left out, no id can be V.
    below = g.cast(g.LessOrEqual(cumulative, target), np.float32)  # counts exactly up to 2^24, and fastest
    return g.cast(g.ReduceSum(below, ROWS, keepdims=0), np.int64), total


def add_plain_draw(
    g: GraphBuilder, logits: Value, scores: Value, short: Value, uniforms: Value, vocab_size: int
) -> tuple[Value, Value]:
    """Draw from the plain model, and compute log p from the draw's own weights.

    Args:
        logits: float64 (R, V).
        scores: the same, without the boundary if the draw is short.
        short: bool (): the draw may not end the names.
        uniforms: float32 (R, 1).

    Returns:
        Ids int64 (R,) and log p float64 (R,), in nats, with the boundary counted even if the draw is short.
    """
    shifted, largest = add_shifted(g, scores)
    drawn, total = add_draw(g, add_weights(g, shifted), uniforms, vocab_size)  # (R, V) -> (R,)
    # If short, the boundary b is missing from the total: log(total + e^b), or b where e^b overflows.
    boundary = g.Sub(g.Slice(logits, np.array([0]), np.array([1]), ROWS), largest)  # (R, 1)
    with_boundary = g.Max(g.Log(g.Add(total, g.Exp(g.Min(boundary, np.float64(700))))), boundary)
    log_total = g.Add(largest, g.Where(short, with_boundary, g.Log(total)))  # (R, 1)
    picked = g.GatherElements(logits, g.Unsqueeze(drawn, ROWS), axis=1)  # (R, V) -> (R, 1)
    return drawn, g.Squeeze(g.Sub(picked, log_total), ROWS)


def add_limits(g: GraphBuilder, weights: Value, vocab_size: int) -> Value:
    """Turn weights into a table that draws by comparison alone.

    Args:
        weights: float64 (R, V), not normalised.

    Returns:
        float32 (R, V), rising: limits[:, i] is the largest float32 u with u * total < cumulative[i] in
        float64, so that `add_draw_within` draws exactly what `add_draw` draws. The last is infinite.
    """
    cumulative, total = _cumulative(g, weights, vocab_size)
    # The quotient's nearest float32 is that largest u, or the one right above it: the inequality decides.
    near = g.cast(g.Div(cumulative, total), np.float32)  # (R, V-1)
    exact = g.cast(near, np.float64)
    below = g.Less(g.Mul(exact, total), cumulative)
    # The float32 before it: neighbours are 2^-24 to 2^-23 of their size apart, so a little more than 2^-24 of
    # it is always nearest to one step; below the normal numbers all steps are 2^-149.
    step = g.Max(g.Mul(exact, np.float64(1.03 * 2**-24)), np.float64(0.75 * 2**-149))
    limits = g.Where(below, near, g.cast(g.Sub(exact, step), np.float32))
    return g.Pad(limits, np.array([0, 0, 0, 1]), np.float32(np.inf))  # (R, V-1) -> (R, V)


def add_draw_within(g: GraphBuilder, limits: Value, uniforms: Value) -> Value:
    """Draw the first id whose limit the uniform does not exceed.

    Args:
        limits: float32 (R, V), from `add_limits`.
        uniforms: float32 (R, 1); below 0 draws the boundary.

    Returns:
        Ids int64 (R,), from 0 to V-1 whatever the uniforms hold.
    """
    # min(limit, u) rises with the limits as far as the first that is at least u, and then stays.
    return g.ArgMax(g.Min(limits, uniforms), axis=1, keepdims=0)


def _cumulative(g: GraphBuilder, weights: Value, vocab_size: int) -> tuple[Value, Value]:
    """Cumulative sums without the last, float64 (R, V-1), and the last, which is the total, (R, 1)."""
    cumulative = g.CumSum(weights, np.int64(1))  # (R, V)
    total = g.Gather(cumulative, np.array([vocab_size - 1]), axis=1)
    return g.Slice(cumulative, np.array([0]), np.array([vocab_size - 1]), ROWS), total
