"""A table of figures over training steps, kept as a CSV file: `metrics.csv` and `diagnostics.csv`."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from makemore_pl.errors import RequestError
from makemore_pl.files import whole_lines, write_whole

STEP = "step"


class StepRow(NamedTuple):
    """The figures of one row, by name. Those that were not measured are missing."""

    step: int
    figures: dict[str, float]

    def by_part(self, figure: str) -> dict[str, float]:
        """One figure of all the layers or weights that have it."""
        ending = f"/{figure}"
        return {name.removesuffix(ending): x for name, x in self.figures.items() if name.endswith(ending)}


class StepTable:
    """Writes rows as they come. A kill at any instant leaves every row that had been written before.

    The file is first touched by the first row. It then keeps the rows before `first_step` and loses the
    others, which the resumed training is about to repeat.

    Args:
        file: the CSV file.
        first_step: the step that training starts or resumes at. At 0 an earlier file is replaced unread.

    Raises:
        RequestError: the file to resume is damaged.
    """

    def __init__(self, file: Path, first_step: int = 0) -> None:
        self.file = file
        self._columns, rows = _read(file) if first_step else ([STEP], [])
        self._kept: list[dict[str, str]] | None = [row for row in rows if int(row[STEP]) < first_step]

    def write(self, step: int, figures: Mapping[str, object]) -> None:
        """Add a row, which is in the file when this returns. Several rows may have the same step.

        Figures are numbers, or texts that read as numbers; they are written as `str` gives them.
        """
        row = {STEP: step, **figures}
        new = [name for name in row if name not in self._columns]
        if new or self._kept is not None:
            rows = _read(self.file)[1] if self._kept is None else self._kept
            self._columns += new
            header = dict(zip(self._columns, self._columns, strict=True))
            write_whole(self.file, self._lines([header, *rows, row]).encode())
            self._kept = None
        else:
            with self.file.open("a", encoding="utf-8", newline="") as file:
                file.write(self._lines([row]))

    def _lines(self, rows: Iterable[Mapping[str, object]]) -> str:
        lines = io.StringIO(newline="")
        csv.DictWriter(lines, self._columns, restval="", lineterminator="\n").writerows(rows)
        return lines.getvalue()


def read_steps(file: Path) -> list[StepRow]:
    """Read all rows, but for a last one that a kill has cut short; no file, no rows.

    Raises:
        RequestError: it is not such a table.
    """
    with _damage_named(file):
        return [
            StepRow(int(row.pop(STEP)), {name: float(value) for name, value in row.items() if value})
            for row in _read(file)[1]
        ]


def _read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows as text."""
    with _damage_named(file):
        reader = csv.DictReader(whole_lines(file), strict=True)
        rows = list(reader)
        for row in rows:
            int(row[STEP])
            if None in row:
                raise ValueError("a row too long")
        return list(reader.fieldnames or [STEP]), rows


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        raise RequestError(f"{file}: damaged ({reason}); move it away to resume without it") from error
