"""Names from the logits of all contexts, with NumPy: where the table is there, a look-up a draw.

A draw takes the smallest id whose cumulative probability exceeds the uniform (decoding.py). The *limit* of an
id is the largest uniform for which that id or one before it is drawn; so the id drawn is the first whose
limit the uniform does not exceed. Limits are made once, for all contexts, and are exact.

A *guide table* (Chen and Asau 1974) saves most comparisons: it divides the uniforms into K buckets and holds,
for each, the id that all of them draw. Only in a bucket with a limit inside are limits compared.

Only those labels have rows in the table that were asked for.

Notation: n names, V vocabulary size, T block size, R contexts: V^T.
"""

import functools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.context_space import ContextSpace
from makemore_pl.runtime.decoding import Decoding, bend, log_softmax, prefix_log_prob
from makemore_pl.vocabulary import BOUNDARY

NAMES_AT_A_TIME = 1 << 14
"""Enough to hide the overhead of NumPy's calls, few enough for the processor's cache."""
NAMES_PER_THREAD = 10_000
"""Fewest that are worth a thread: between NumPy's many short calls, threads wait for Python's lock."""
DRAWS_PER_CONTEXT = 4
"""A table pays for requests that may take at least this many draws for each context of one label."""
MOST_LOGITS = 1 << 21
"""Of one label in a table: what is made from it takes 32 MiB."""
MOST_KEPT = 1 << 23
"""Of all labels in it: 128 MiB."""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _logits_of_a_label(space: ContextSpace) -> int:
    return math.prod([space.vocab_size] * (space.block_size + 1))


def are_few(space: ContextSpace) -> bool:
    """True where there are so few contexts that names are drawn from a table."""
    return _logits_of_a_label(space) <= MOST_LOGITS


def most_labels(space: ContextSpace) -> int:
    """Labels that a table has at most: as many as fit, at least one."""
    return max(1, MOST_KEPT // _logits_of_a_label(space))


def pays(space: ContextSpace, uniforms: NDArray[np.float32], label_ids: NDArray[np.int64] | None) -> bool:
    """True where a request takes so many draws that a table pays, and its labels fit into one."""
    enough = uniforms.size >= DRAWS_PER_CONTEXT * space.vocab_size**space.block_size
    return enough and (label_ids is None or len(different(label_ids)) <= most_labels(space))


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
    """The logits of a model after all contexts of some labels, and names drawn from them.

    Many threads may call it.

    Args:
        logits: float32 (labels, R, V), finite; those of a label in the order of its contexts' numbers.
        block_size: T.
        labels: their numbers; only number 0 where there are none.
    """

    def __init__(self, logits: NDArray[np.float32], block_size: int, labels: list[int]) -> None:
        self.labels = labels
        self._n_contexts, self._n_ids = logits.shape[1:]  # R, V
        self.logits = logits.reshape(-1, self._n_ids)  # a row for each context
        self._block_size = block_size
        self._factors = self._n_ids ** np.arange(block_size - 1, -1, -1)
        self._log_p = log_softmax(self.logits).ravel()
        # The next context's row when the boundary is drawn: a look-up is faster than a remainder.
        first = np.arange(len(labels))[:, None] * self._n_contexts
        self._following = (first + np.arange(self._n_contexts) * self._n_ids % self._n_contexts).ravel()
        self._draws = functools.lru_cache(maxsize=3)(self._make_draws)
        self._lock = threading.Lock()

    def next_logits(self, rows: NDArray[np.int64], characters: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits float32 (n, V) after the labels that begin at some rows, (n,), and characters, (n, T)."""
        logits: NDArray[np.float32] = self.logits[rows + characters @ self._factors]
        return logits

    def first_rows(self, label_numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row with which each label begins."""
        places = np.zeros(max(self.labels) + 1, dtype=np.int64)
        places[self.labels] = np.arange(len(self.labels)) * self._n_contexts
        return places[label_numbers]

    def draw(
        self,
        names: NDArray[np.int64],
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        rows: NDArray[np.int64],
        ids: NDArray[Any],
        log_prob: NDArray[np.float64],
    ) -> int:
        """Draw some of n names, as `sample_stepwise` does.

        Args:
            names: int64 (a,), which ones.
            uniforms: float32 (n * steps,), steps for each of the n.
            prefix: int64 (p,), ids at the start of every name.
            decoding: how each character is drawn.
            rows: int64 (a,), `first_rows` of their labels.
            ids: zeros, (n * steps,): the ids drawn are written here.
            log_prob: float64 (n,), of the prefix: those of all draws are added, in nats.

        Returns:
            The most characters drawn of a name.
        """
        steps = len(uniforms) // len(log_prob)
        padded = np.concatenate([np.full(self._block_size, BOUNDARY), prefix])
        first = int(padded[-self._block_size :] @ self._factors)
        n_short = decoding.min_length - len(prefix)  # draws that may not end a name
        # By default it is the first alone, after one context of each label.
        short_rows = slice(first, None, self._n_contexts) if n_short == 1 else slice(0, None, 1)
        draws = self._draws_after(decoding)
        short_draws = self._draws_after(decoding, short_rows) if n_short > 0 else draws
        rows, at = rows + first, names * steps  # contexts; where each name's next id stands
        for step in range(steps):
            u = uniforms.take(at)  # (a,)
            drawn = short_draws.ids(rows // short_rows.step, u) if step < n_short else draws.ids(rows, u)
            ids[at] = drawn
            log_prob[names] += self._log_p.take(rows * self._n_ids + drawn)
            longer = np.flatnonzero(drawn != BOUNDARY)
            if len(longer) == 0:
                return step
            names, at = names[longer], at[longer] + 1
            rows = self._following.take(rows[longer]) + drawn[longer]
        return steps

    def _draws_after(self, decoding: Decoding, short_rows: slice | None = None) -> Draws:
        """Draws after all contexts, or after some without the boundary. The latest ones are kept."""
        bent = Decoding(temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p)
        with self._lock:  # each is made once, and not by every thread
            return self._draws(bent, *((short_rows.start, short_rows.step) if short_rows else (0, 0)))

    def _make_draws(self, bent: Decoding, start: int, step: int) -> Draws:
        return Draws(self.logits[start :: step or 1], bent, short=step > 0)


class LogitTables:
    """A table of those labels that were asked for, or of the only one where there are none.

    Args:
        space: all contexts.
        logits_of: number of a label, or 0 -> logits after the contexts that begin with it, float32 (R, V).
    """

    def __init__(self, space: ContextSpace, logits_of: Callable[[int], NDArray[np.float32]]) -> None:
        self._space, self._logits_of = space, logits_of
        self.hold_all = space.n_labels <= most_labels(space)  # labels at once
        self._latest: LogitTable | None = None
        self._lock = threading.Lock()

    def of(self, labels: list[int]) -> LogitTable:
        """A table that has these labels, by their numbers; number 0, where there are none."""
        with self._lock:
            before = self._latest.labels if self._latest else []
            if self._latest is None or not set(labels) <= set(before):
                both = sorted({*before, *labels})
                kept = both if len(both) <= most_labels(self._space) else labels
                logits = np.stack([self._logits_of(label) for label in kept])
                self._latest = LogitTable(logits, self._space.block_size, kept)
            return self._latest

    def generate(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Draw names; arguments and results are those of `sample_stepwise`, but for the ids' integer type."""
        n, steps = uniforms.shape
        v, block_size = self._space.vocab_size, self._space.block_size
        numbers = np.zeros(n, dtype=np.int64) if label_ids is None else label_ids - v
        table = self.of(different(numbers).tolist() or [0])
        rows = table.first_rows(numbers)
        log_prob = prefix_log_prob(
            lambda contexts: table.next_logits(contexts[:, 0], contexts[:, 1:]),
            block_size,
            prefix,
            rows[:, None],
        )
        uniform, ids = uniforms.ravel(), np.zeros(n * steps, np.min_scalar_type(v))

        def draw(part: slice) -> int:
            names = np.arange(part.start, part.stop)
            return table.draw(names, uniform, prefix, decoding, rows[part], ids, log_prob)

        n_threads = max(1, min(CORES, n // NAMES_PER_THREAD))
        n_parts = n_threads * -(-n // (n_threads * NAMES_AT_A_TIME))  # as many for each thread
        bounds = [n * part // n_parts for part in range(n_parts + 1)] if n else []
        parts = map(slice, bounds, bounds[1:])
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
    places = np.minimum(np.floor(limits * np.float32(n_buckets)), n_buckets).astype(np.int64)
    places += np.arange(1, n_rows * width, width)[:, None]
    inside = np.bincount(places.ravel(), minlength=n_rows * width).astype(small).reshape(n_rows, width)
    below = inside.cumsum(axis=1, dtype=small)[:, :n_buckets]
    guide: NDArray[np.unsignedinteger[Any]] = np.where(inside[:, 1:-1] > 0, small.type(n_ids), below)
    return guide
