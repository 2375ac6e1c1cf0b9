"""Names from the logits of all contexts, with NumPy: where the table is there, a look-up a draw.

A draw takes the smallest id whose cumulative probability exceeds the uniform (decoding.py). The *limit* of an
id is the largest uniform for which that id or one before it is drawn; so the id drawn is the first whose
limit the uniform does not exceed. Limits are made once, for all contexts, and are exact.

A *guide table* (Chen and Asau 1974) saves most comparisons: it divides the uniforms into K buckets and holds,
for each, the id that all of them draw. Only in a bucket with a limit inside are limits compared.

Notation: n names, V vocabulary size, T block size, P positions of a context (T, or with a label T + 1), R
contexts: V^T, for each label.
"""

import functools
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.context_space import ContextSpace
from makemore_pl.exported.metadata import TABLE
from makemore_pl.runtime.decoding import Decoding, bend, log_softmax, prefix_log_prob
from makemore_pl.vocabulary import BOUNDARY


class Draws:
    """Draws after some contexts.

    Args:
        logits: float32 (R, V), of these contexts.
        decoding: temperature, top-k and top-p.
        short: the boundary is not drawn.
    """

    def __init__(self, logits: NDArray[np.float32], decoding: Decoding, *, short: bool) -> None:
        scores = logits.astype(np.float64)
        if short:
            scores[:, BOUNDARY] = -np.inf
        self._limits = limits_of(scores, decoding)
        self._n_ids = logits.shape[1]
        self._n_buckets = 1 << (2 * self._n_ids - 1).bit_length()  # 2 to 4 for an id; a power of 2 is exact
        self._guide = guide_of(self._limits, self._n_buckets).ravel()

    def ids(self, rows: NDArray[np.int64], uniforms: NDArray[np.float32]) -> NDArray[np.int64]:
        """Draw an id after each of the contexts with these numbers: (a,), (a,) -> (a,)."""
        buckets = (uniforms * np.float32(self._n_buckets)).astype(np.int64)
        ids: NDArray[np.int64] = self._guide.take(rows * self._n_buckets + buckets).astype(np.int64)
        unsure = np.flatnonzero(ids == self._n_ids)
        of_rows = self._limits.take(rows[unsure], axis=0)  # (unsure, V)
        ids[unsure] = (of_rows >= uniforms[unsure, None]).argmax(axis=1)
        return ids


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
        self._of_label = of_label
        self._draws = functools.lru_cache(maxsize=3)(self._make_draws)
        self._lock = threading.Lock()

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
        p, n_ids = len(prefix), self._logits.shape[1]
        labels = np.empty((n, 0), dtype=np.int64) if label_ids is None else label_ids[:, None]  # (n, P - T)
        log_prob = prefix_log_prob(self.next_logits, block_size, prefix, labels)
        context = np.concatenate([np.full(block_size, BOUNDARY), prefix])[-block_size:]
        number = int(context @ self._space.factors[-block_size:])
        rows = np.full(n, number) if label_ids is None else number + (label_ids - n_ids) * self._of_label
        draws = self.draws(decoding)
        n_short = decoding.min_length - p  # draws that may not end a name
        # By default it is the first alone: then after one context of each label.
        short_rows = slice(number, None, self._of_label) if n_short == 1 else slice(0, None, 1)
        short_draws = self.draws(decoding, short_rows, short=True) if n_short > 0 else draws
        uniform, ids = uniforms.ravel(), np.zeros(n * steps, dtype=np.min_scalar_type(n_ids))
        growing, at = np.arange(n), np.arange(n) * steps  # names, a of them, and where their next id stands
        longest = 0
        for step in range(steps):
            of_step, row = (short_draws, rows // short_rows.step) if step < n_short else (draws, rows)
            drawn = of_step.ids(row, uniform.take(at))  # (a,)
            ids[at] = drawn
            log_prob[growing] += self._log_p.take(rows * n_ids + drawn)
            longer = np.flatnonzero(drawn != BOUNDARY)
            if len(longer) == 0:
                break
            longest = step + 1
            growing, at = growing[longer], at[longer] + 1
            rows = self._following.take(rows[longer]) + drawn[longer]
        tokens = np.zeros((n, p + longest), dtype=np.int64)
        tokens[:, :p], tokens[:, p:] = prefix, ids.reshape(n, steps)[:, :longest]
        length = np.count_nonzero(prefix) + longest if n else 0  # a prefix may have a boundary inside
        return tokens[:, :length], log_prob.astype(np.float32)

    def draws(self, decoding: Decoding, rows: slice = slice(None), *, short: bool = False) -> Draws:
        """Draws after the contexts with some numbers. The latest ones are kept."""
        with self._lock:  # each is made once, and not by every thread
            bent = Decoding(temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p)
            return self._draws(bent, rows.start, rows.step, short)

    def _make_draws(self, bent: Decoding, first: int | None, step: int | None, short: bool) -> Draws:
        return Draws(self._logits[first::step], bent, short=short)


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


def guide_of(limits: NDArray[np.float32], n_buckets: int) -> NDArray[np.unsignedinteger[Any]]:
    """The id that all uniforms of a bucket draw, or V where they draw several: limits (R, V) -> (R, K)."""
    n_rows, n_ids = limits.shape
    small = np.min_scalar_type(n_ids)
    # Limits in each bucket, in all those before the first (ids that are never drawn) and after the last.
    width = n_buckets + 2
    places = np.floor(limits * np.float32(n_buckets)).clip(-1, n_buckets).astype(np.int64)
    places += np.arange(1, n_rows * width, width)[:, None]
    inside = np.bincount(places.ravel(), minlength=n_rows * width).astype(small).reshape(n_rows, width)
    below = inside.cumsum(axis=1, dtype=small)[:, :n_buckets]
    guide: NDArray[np.unsignedinteger[Any]] = np.where(inside[:, 1:-1] > 0, small.type(n_ids), below)
    return guide


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
