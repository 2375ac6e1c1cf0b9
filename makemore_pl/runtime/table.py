"""Names drawn with NumPy from a table of the logits after every context: a look-up and a comparison a draw.

A draw takes the smallest id whose cumulative probability exceeds the uniform (decoding.py). The *limit* of an
id is the largest uniform for which that id or one before it is drawn; so the id drawn is the first whose
limit the uniform does not exceed. Limits are made once, for all contexts, and are exact.

Notation: n names, V vocabulary size, T block size, P positions of a context (T, or with a label T + 1), R
contexts: V^T, for each label.
"""

import numpy as np
from numpy.typing import NDArray

from makemore_pl.context_space import ContextSpace
from makemore_pl.exported.metadata import TABLE
from makemore_pl.runtime.decoding import Decoding, bend, log_softmax, prefix_log_prob
from makemore_pl.vocabulary import BOUNDARY

NAMES_AT_A_TIME = 1 << 13
"""Enough to hide the overhead of NumPy's calls, few enough for the processor's cache."""

Bent = tuple[float, int, float]
"""Temperature, top-k and top-p."""


class LogitTable:
    """The logits of a model after every context, and names drawn from them. Many threads may call it.

    Args:
        logits: float32 (R, V); row r is context number r.
        space: the contexts.
    """

    def __init__(self, logits: NDArray[np.float32], space: ContextSpace) -> None:
        self._logits = logits
        self._space = space
        n_ids, of_label = space.vocab_size, space.vocab_size**space.block_size  # contexts of each label
        self._log_p = log_softmax(logits).ravel()
        # The next context's number when the boundary is drawn, (R,): a look-up is faster than a remainder.
        rows = np.arange(len(logits))
        self._following = rows * n_ids % of_label + rows - rows % of_label
        self._latest: tuple[Bent, NDArray[np.float32]] | None = None

    def next_logits(self, context: NDArray[np.int64]) -> NDArray[np.float32]:
        """context int64 (n, P) -> logits float32 (n, V)."""
        logits: NDArray[np.float32] = self._logits[self._space.numbers(context)]
        return logits

    def generate(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Draw names; arguments and results are those of `sample_stepwise` with `next_logits`."""
        n, steps = uniforms.shape
        block_size = self._space.block_size
        limits = self.limits(decoding)
        p = len(prefix)
        tokens = np.full((n, p + steps), BOUNDARY)
        tokens[:, :p] = prefix
        labels = np.empty((n, 0), dtype=np.int64) if label_ids is None else label_ids[:, None]  # (n, P - T)
        log_prob = prefix_log_prob(self.next_logits, block_size, prefix, labels)
        context = np.concatenate([np.full(block_size, BOUNDARY), prefix])[-block_size:]
        contexts = np.concatenate([labels, np.broadcast_to(context, (n, block_size))], axis=1)  # (n, P)
        first_rows = self._space.numbers(contexts)
        n_contexts, n_ids = self._logits.shape
        n_short = decoding.min_length - p  # draws that may not end a name
        longest = 0
        for start in range(0, n, NAMES_AT_A_TIME):
            growing = np.arange(start, min(start + NAMES_AT_A_TIME, n))  # names, a of them
            rows = first_rows[growing]
            for step in range(steps):
                of_rows = limits.take(rows - n_contexts if step < n_short else rows, axis=0)  # (a, V)
                drawn = (of_rows >= uniforms[growing, step][:, None]).argmax(axis=1)  # (a, V) -> (a,)
                tokens[growing, p + step] = drawn
                log_prob[growing] += self._log_p.take(rows * n_ids + drawn)
                longer = np.flatnonzero(drawn)  # the boundary is id 0
                if len(longer) == 0:
                    break
                longest = max(longest, step + 1)
                growing = growing[longer]
                rows = self._following.take(rows[longer]) + drawn[longer]
        length = np.count_nonzero(prefix) + longest if n else 0
        return tokens[:, :length], log_prob.astype(np.float32)

    def limits(self, decoding: Decoding) -> NDArray[np.float32]:
        """Limits after every context, then those without boundary, float32 (2R, V). The latest are kept."""
        bent = (decoding.temperature, decoding.top_k, decoding.top_p)
        latest = self._latest
        if latest is None or latest[0] != bent:
            scores = self._logits.astype(np.float64)
            without = scores.copy()
            without[:, BOUNDARY] = -np.inf
            limits = np.concatenate([limits_of(scores, decoding), limits_of(without, decoding)])
            latest = self._latest = bent, limits
        return latest[1]


def limits_of(scores: NDArray[np.float64], decoding: Decoding) -> NDArray[np.float32]:
    """The limits of draws from some logits, float64 (n, V), which may be overwritten: float32 (n, V).

    `limits[:, i]` is the largest float32 u for which u * total < cumulative[i] in float64, as `draw` compares
    them; below 0 where id i and all before it are never drawn.
    """
    cumulative = np.exp(bend(scores, decoding)).cumsum(axis=1)  # (n, V)
    total = cumulative[:, -1:]
    near = (cumulative / total).astype(np.float32)  # that u, or the one right above it
    below = np.nextafter(near, np.float32(-1))
    limits: NDArray[np.float32] = np.where(near * total < cumulative, near, below)
    limits[:, -1] = np.inf
    return limits


def stored_logits(content: bytes, n_contexts: int, n_ids: int) -> NDArray[np.float32] | None:
    """Find the tensor `TABLE` in the bytes of an ONNX file: float32 (R, V), read-only.

    ONNX Runtime hands out no tensor of a graph but its outputs. A protocol buffer holds a tensor as its
    shape, type and name, then the numbers as they are (TensorProto in onnx.proto): these are searched for.

    Returns:
        None where they are not there in this order, as in a file that another program has written again.
    """

    def number(n: int) -> bytes:  # a varint: 7 bits a byte, the lowest first
        return bytes([n & 127 | 128]) + number(n >> 7) if n > 127 else bytes([n])

    shape = b"\x08" + number(n_contexts) + b"\x08" + number(n_ids)
    float32, name = b"\x10\x01", b"\x42" + number(len(TABLE)) + TABLE.encode()
    head = shape + float32 + name + b"\x4a" + number(4 * n_contexts * n_ids)
    at = content.find(head)
    start = at + len(head)
    if at < 0 or content.find(head, start) >= 0 or len(content) < start + 4 * n_contexts * n_ids:
        return None
    return np.frombuffer(content, "<f4", n_contexts * n_ids, start).reshape(n_contexts, n_ids)
