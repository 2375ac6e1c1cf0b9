"""Names drawn ahead: what makes a small request cheap."""

from makemore_pl.runtime.request import Wish
from makemore_pl.runtime.sampler import Sampler

FIRST, MOST = 16, 1_024
"""Names drawn at a time: at first, and after some doublings."""

Row = tuple[str, float]
"""A name and its log-likelihood."""


class Reservoir:
    """Names of one kind for requests without a seed. Each of them is handed out once.

    Names are independent of each other, so it does not matter for which request one was drawn; and drawing
    a thousand takes as long as drawing one name eight times.

    Args:
        sampler: the model.
        wish: the kind of names.
    """

    def __init__(self, sampler: Sampler, wish: Wish) -> None:
        self._sampler, self._wish = sampler, vars(wish)
        self.is_quick = wish.is_plain
        """More names are drawn within a millisecond or two; for others, tables may have to be made."""
        self._rows: list[Row] = []
        self._size = FIRST

    def has(self, n: int) -> bool:
        """True if so many names have been drawn already."""
        return len(self._rows) >= n

    def draw(self, n: int) -> list[Row]:
        """Draw n names, and more. Errors as `Sampler.stream`."""
        size = max(self._size, n)
        self._size = min(2 * self._size, MOST)
        batches = self._sampler.stream(size, **self._wish)
        return [row for batch in batches for row in zip(batch.names, batch.log_probs, strict=True)]

    def add(self, rows: list[Row]) -> None:
        """Keep what `draw` has drawn."""
        self._rows += rows

    def add_but(self, n: int, rows: list[Row]) -> list[Row]:
        """Hand out n of what `draw` has drawn, and keep the others."""
        self._rows += rows[n:]
        return rows[:n]

    def take(self, n: int) -> list[Row]:
        """Hand out n names that are there."""
        taken = self._rows[len(self._rows) - n :]
        del self._rows[len(self._rows) - n :]
        return taken
