"""log p(id | context) of many windows: looked up in a table, or each different context computed once.

A context has P positions, each with a number of values of its own; V is the number of ids that can follow.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from makemore_pl.scoring.windows import Windows

LogProbs: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Contexts int64 (n, P) -> log p of each id (n, V)."""
TABLE_ENTRIES = 1 << 24
"""A larger table is not made: 128 MiB, of which only those rows take memory that have been asked for."""
ENTRIES_PER_CALL = 1 << 20
"""Numbers into and out of the network at a time: bounds the memory of a wide vocabulary."""
WINDOWS_AT_ONCE = 1 << 17
"""With a table: what lies in a processor's cache."""
CONTEXT_IDS_AT_ONCE = 1 << 22
"""Without: the more windows at a time, the more of their contexts are equal."""


class Transitions:
    """A network's log-likelihoods. May be asked by many threads.

    Args:
        log_probs: the network.
        sizes: number of values of each position of a context, the oldest first (P,).
        vocab_size: V.
    """

    def __init__(self, log_probs: LogProbs, sizes: Sequence[int], vocab_size: int) -> None:
        self._log_probs = log_probs
        self._sizes = sizes
        self._vocab_size = vocab_size
        self._n_contexts = math.prod(sizes)
        self._has_table = self._n_contexts * vocab_size <= TABLE_ENTRIES

    @property
    def windows_at_once(self) -> int:
        """The number of windows to ask for in one call."""
        return WINDOWS_AT_ONCE if self._has_table else max(1, CONTEXT_IDS_AT_ONCE // len(self._sizes))

    def of(self, windows: Windows) -> NDArray[np.float64]:
        """log p of what follows in each window (M,), in nats. Of windows inside no name, any number."""
        return self._from_table(windows) if self._has_table else self._from_network(windows)

    def _from_table(self, windows: Windows) -> NDArray[np.float64]:
        numbers = windows.positions[0].astype(np.int32)  # of the contexts: they fit, or there is no table
        for ids, size in zip(windows.positions[1:], self._sizes[1:], strict=True):
            numbers *= size
            numbers += ids
        table, is_known = self._table
        if not (known := is_known.take(numbers)).all():
            new = np.unique(numbers[~known])
            for part in self._parts(len(new)):
                contexts = np.stack(np.unravel_index(new[part], self._sizes), axis=1)  # (m,) -> (m, P)
                table[new[part]] = self._log_probs(contexts)  # (m, P) -> (m, V)
                is_known[new[part]] = True  # only now: another thread may be looking
        numbers *= self._vocab_size
        numbers += windows.following
        log_probs: NDArray[np.float64] = table.ravel().take(numbers)
        return log_probs

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """log p (contexts, V), and which rows have been filled in."""
        return np.empty((self._n_contexts, self._vocab_size)), np.zeros(self._n_contexts, dtype=np.bool_)

    def _from_network(self, windows: Windows) -> NDArray[np.float64]:
        inside = windows.inside()  # W windows
        positions = [ids[inside] for ids in windows.positions]
        _, first, number = np.unique(self._numbers(positions), return_index=True, return_inverse=True)
        order = np.argsort(number, kind="stable")  # windows with equal contexts stand together
        borders = np.searchsorted(number[order], np.arange(len(first) + 1))
        log_probs = np.zeros(len(windows.following))
        for part in self._parts(len(first)):
            contexts = np.stack([ids[first[part]] for ids in positions], axis=1).astype(np.int64)  # (m, P)
            rows = self._log_probs(contexts)  # (m, P) -> (m, V)
            some = order[borders[part.start] : borders[part.stop]]
            at = inside[some]
            log_probs[at] = rows[number[some] - part.start, windows.following[at]]
        return log_probs

    def _numbers(self, positions: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
        """A number for each context, int64 (W,): the same for equal ones, another for others."""
        numbers = np.zeros(len(positions[0]), dtype=np.int64)
        n_values = 1
        for ids, size in zip(positions, self._sizes, strict=True):
            if n_values * size > np.iinfo(np.int64).max:  # numbers that do not occur are left out
                different, numbers = np.unique(numbers, return_inverse=True)
                n_values = len(different)
            numbers = numbers * size + ids
            n_values *= size
        return numbers

    def _parts(self, n: int) -> list[slice]:
        """n contexts in parts for one call each."""
        most = max(1, ENTRIES_PER_CALL // (len(self._sizes) + self._vocab_size))
        return [slice(start, min(start + most, n)) for start in range(0, n, most)]
