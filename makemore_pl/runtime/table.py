"""Names from the logits of all contexts, with NumPy: where the table is there, a look-up a draw.

A draw takes the smallest id whose cumulative probability exceeds the uniform (decoding.py). The *limit* of an
id is the largest uniform for which that id or one before it is drawn; so the id drawn is the first whose
limit the uniform does not exceed. Limits are made once, for all contexts, and are exact.

A *guide table* (Chen and Asau 1974) saves most comparisons: it divides the uniforms into K buckets and holds,
for each, the id that all of them draw. Only in a bucket with a limit inside are limits compared.

A label is known before the first draw, so each has a table of its own: only those asked for are made.

Notation: n names, V vocabulary size, T block size, R contexts: V^T.
"""

import functools
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.context_space import ContextSpace
from makemore_pl.exported.metadata import TABLE
from makemore_pl.runtime.decoding import Decoding, bend, log_softmax, prefix_log_prob
from makemore_pl.vocabulary import BOUNDARY

NAMES_AT_A_TIME = 1 << 14
"""Enough to hide the overhead of NumPy's calls, few enough for the processor's cache."""
NAMES_PER_THREAD = 10_000
"""Fewest that are worth a thread: between NumPy's many short calls, threads wait for Python's lock."""
DRAWS_PER_CONTEXT = 4
"""Tables pay for requests that may take at least this many draws for each context of one of them."""
MOST_LOGITS = 1 << 21
"""Of a table that names are drawn from: what is made from it takes 32 MiB."""
MOST_KEPT = 1 << 23
"""Logits of all tables that are kept, one for each label: with what is made from them, 128 MiB."""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def are_few(space: ContextSpace) -> bool:
    """True where there are so few contexts that names are drawn from a table."""
    return math.prod([space.vocab_size] * (space.block_size + 1)) <= MOST_LOGITS


def n_kept(space: ContextSpace) -> int:
    """Tables that are kept, at least one."""
    return max(1, MOST_KEPT // math.prod([space.vocab_size] * (space.block_size + 1)))


def pays(space: ContextSpace, uniforms: NDArray[np.float32], label_ids: NDArray[np.int64] | None) -> bool:
    """True where a request takes so many draws that its tables pay: soon if they are kept, else at once."""
    n_paid = uniforms.size // (DRAWS_PER_CONTEXT * space.vocab_size**space.block_size)
    n_tables = 1 if label_ids is None or n_paid == 0 else len(different(label_ids))
    return n_paid > 0 and n_tables <= max(n_paid, n_kept(space))


def different(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each of some ids once."""
    return np.flatnonzero(np.bincount(ids))


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
        logits: float32 (R, V), finite; row r is context number r.
        block_size: T.
    """

    def __init__(self, logits: NDArray[np.float32], block_size: int) -> None:
        n_contexts, n_ids = logits.shape
        self.logits = logits
        self._block_size = block_size
        self._factors = n_ids ** np.arange(block_size - 1, -1, -1)
        self._log_p = log_softmax(logits).ravel()
        # The next context's number when the boundary is drawn, (R,): a look-up is faster than a remainder.
        self._following = np.arange(n_contexts) * n_ids % n_contexts
        self._draws = functools.lru_cache(maxsize=3)(self._make_draws)
        self._lock = threading.Lock()

    def draw(
        self,
        names: NDArray[np.int64],
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        ids: NDArray[Any],
        log_prob: NDArray[np.float64],
    ) -> int:
        """Draw some of n names, as `sample_stepwise` does.

        Args:
            names: int64 (a,), which ones.
            uniforms: float32 (n * steps,), steps for each of the n.
            prefix: int64 (p,), ids at the start of every name.
            decoding: how each character is drawn.
            ids: zeros, (n * steps,): the ids drawn are written here.
            log_prob: float64 (n,): the log-likelihoods are written here, in nats.

        Returns:
            The most characters drawn of a name.
        """
        n_contexts, n_ids = self.logits.shape
        steps = len(uniforms) // len(log_prob)
        padded = np.concatenate([np.full(self._block_size, BOUNDARY), prefix])
        first = int(padded[-self._block_size :] @ self._factors)
        log_prob[names] = self._log_prob_of(prefix)
        n_short = decoding.min_length - len(prefix)  # draws that may not end a name
        # By default it is the first alone, after one context.
        short_rows = range(first, first + 1) if n_short == 1 else range(n_contexts)
        draws = self._draws_after(decoding)
        short_draws = self._draws_after(decoding, short_rows) if n_short > 0 else draws
        rows, at = np.full(len(names), first), names * steps  # contexts; where each name's next id stands
        for step in range(steps):
            u = uniforms.take(at)  # (a,)
            drawn = short_draws.ids(rows - short_rows.start, u) if step < n_short else draws.ids(rows, u)
            ids[at] = drawn
            log_prob[names] += self._log_p.take(rows * n_ids + drawn)
            longer = np.flatnonzero(drawn != BOUNDARY)
            if len(longer) == 0:
                return step
            names, at = names[longer], at[longer] + 1
            rows = self._following.take(rows[longer]) + drawn[longer]
        return steps

    def _log_prob_of(self, prefix: NDArray[np.int64]) -> float:
        def next_logits(context: NDArray[np.int64]) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = self.logits[context @ self._factors]
            return logits

        return float(prefix_log_prob(next_logits, self._block_size, prefix, np.empty((1, 0), np.int64))[0])

    def _draws_after(self, decoding: Decoding, short_rows: range | None = None) -> Draws:
        """Draws after all contexts, or after some without the boundary. The latest ones are kept."""
        bent = Decoding(temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p)
        with self._lock:  # each is made once, and not by every thread
            return self._draws(bent, short_rows)

    def _make_draws(self, bent: Decoding, short_rows: range | None) -> Draws:
        rows = range(len(self.logits)) if short_rows is None else short_rows
        return Draws(self.logits[rows.start : rows.stop], bent, short=short_rows is not None)


class LogitTables:
    """A table for each label, or one where there are none. The latest ones are kept.

    Args:
        space: all contexts.
        logits_of: number of a label, or 0 -> logits after the contexts that begin with it, float32 (R, V).
    """

    def __init__(self, space: ContextSpace, logits_of: Callable[[int], NDArray[np.float32]]) -> None:
        self._n_ids = space.vocab_size
        self._kept = functools.lru_cache(n_kept(space))(lambda n: LogitTable(logits_of(n), space.block_size))
        self._lock = threading.Lock()

    def of(self, label: int) -> LogitTable:
        """The table of a label, by its number; of number 0, where there are none."""
        with self._lock:
            table: LogitTable = self._kept(label)
        return table

    def generate(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Draw names; arguments and results are those of `sample_stepwise`, but for the ids' integer type."""
        n, steps = uniforms.shape
        uniform, ids = uniforms.ravel(), np.zeros(n * steps, np.min_scalar_type(self._n_ids))
        log_prob = np.zeros(n)

        def draw(part: tuple[int, NDArray[np.int64]]) -> int:
            label, names = part
            return self.of(label).draw(names, uniform, prefix, decoding, ids, log_prob)

        n_threads = max(1, min(CORES, n // NAMES_PER_THREAD))
        parts = list(self._parts(n, n_threads, label_ids))
        if n_threads == 1:
            longest = max(map(draw, parts), default=0)
        else:
            # NumPy releases Python's lock while it runs. The pool lives for this call alone: so none of its
            # threads can be missing after a fork.
            with ThreadPoolExecutor(n_threads) as pool:
                longest = max(pool.map(draw, parts))
        before = np.broadcast_to(prefix.astype(ids.dtype), (n, len(prefix)))
        tokens = np.concatenate([before, ids.reshape(n, steps)[:, :longest]], axis=1)  # (n, p + longest)
        length = np.count_nonzero(prefix) + longest if n else 0  # a prefix may have a boundary inside
        return tokens[:, :length], log_prob.astype(np.float32)

    def _parts(
        self, n: int, n_threads: int, label_ids: NDArray[np.int64] | None
    ) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Labels, and some names of each: no more than are drawn at a time, and as many for each thread."""
        n_rounds = -(-n // (n_threads * NAMES_AT_A_TIME))
        most = -(-n // max(1, n_threads * n_rounds))
        if label_ids is None:
            names_of = {0: np.arange(n)}
        else:
            names_of = {
                i - self._n_ids: np.flatnonzero(label_ids == i) for i in different(label_ids).tolist()
            }
        for label, names in names_of.items():
            for start in range(0, len(names), max(1, most)):
                yield label, names[start : start + most]


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
    """Find the tensor `TABLE` in the bytes of an ONNX file: float32 (contexts, V), read-only.

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
