"""All windows of many names at once: each context with the id that follows it, as views of one row.

Notation: n names, N characters of all of them, T block size, M windows of the row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.vocabulary import BOUNDARY


class Windows:
    """The windows of several names.

    Names stand in one row, with T boundaries before each and after the last, so that no context sees another
    name; the first boundary after a name is its end. T - 1 windows between two names belong to neither.

    Args:
        ids: unsigned integers (N,), of the names' characters, one name after the other.
        offsets: int64 (n + 1,), where each name begins among them.
        block_size: T.
    """

    def __init__(self, ids: NDArray[Any], offsets: NDArray[np.int64], block_size: int) -> None:
        n = len(offsets) - 1
        at = np.repeat(np.arange(1, n + 1) * block_size, np.diff(offsets))  # (N,)
        at += np.arange(len(ids))
        row = np.full(len(ids) + (n + 1) * block_size, BOUNDARY, dtype=ids.dtype)
        row[at] = ids
        size = len(row) - block_size
        self.positions = [row[k : k + size] for k in range(block_size)]
        """Of the contexts, the oldest first: T arrays (M,)."""
        self.following = row[block_size:]
        """The id after each context, (M,)."""
        before = np.arange(n) * block_size
        self._starts = offsets[:-1] + before  # of each name's windows
        self._ends = offsets[1:] + before + 1

    def inside(self) -> NDArray[np.int64]:
        """Numbers of the windows that belong to a name: int64 (N + n,)."""
        lengths = self._ends - self._starts
        first = np.cumsum(lengths) - lengths
        inside: NDArray[np.int64] = np.repeat(self._starts - first, lengths)
        inside += np.arange(len(inside))
        return inside

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up the values of each name's windows: (M,) -> (n,), of one name at least."""
        borders = np.stack([self._starts, self._ends], axis=1).ravel()
        sums: NDArray[np.float64] = np.add.reduceat(values[: borders[-1]], borders[:-1])[::2]
        return sums
