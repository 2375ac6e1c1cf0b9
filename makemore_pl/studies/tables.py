"""Tables in Markdown, among them the one that sets figures beside the lectures'."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from makemore_pl.errors import RequestError


@dataclass(frozen=True)
class Row:
    """One figure, or one statement, of a system.

    Attributes:
        what: what is compared.
        expected: the lectures' figure as printed, or what should hold.
        found: ours.
        within: True if the two agree; None where nothing was printed.
        difference: ours less theirs; None for a statement.
        tolerance: the largest difference accepted, in size; None for a statement.
    """

    what: str
    expected: str
    found: str
    within: bool | None = None
    difference: float | None = None
    tolerance: float | None = None


def figure(what: str, expected: float, found: float, tolerance: float, digits: int = 4) -> Row:
    """A figure beside the printed one; both are shown with `digits` after the point."""
    difference = found - expected
    shown = f"{expected:,.{digits}f}", f"{found:,.{digits}f}"
    return Row(what, *shown, abs(difference) <= tolerance, difference, tolerance)


@dataclass
class Table:
    """Columns and rows of text; `name` is that of its place in a page."""

    name: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def to_markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def comparison_table(rows: Iterable[tuple[str, Row]]) -> Table:
    """The one table, of systems and their rows: the lectures' figures, ours, difference, within or not."""
    table = Table("comparison", ["system", "what", "lectures", "here", "difference", "tolerance", "within"])
    for system, row in rows:
        difference = "" if row.difference is None else f"{row.difference:+.1e}" if row.difference else "0"
        tolerance = "" if row.tolerance is None else f"{row.tolerance:.2g}"
        verdict = {True: "yes", False: "NO", None: ""}[row.within]
        table.rows.append((system, row.what, row.expected, row.found, difference, tolerance, verdict))
    return table


def write_tables(page: Path, tables: Iterable[Table]) -> None:
    """Put each table between the page's marks `<!-- NAME -->` and `<!-- end -->`; the prose stays.

    Raises:
        RequestError: the page has no place for a table.
    """
    text = page.read_text(encoding="utf-8")
    for table in tables:
        before, mark, rest = text.partition(f"<!-- {table.name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise RequestError(f"{page}: no place for the table {table.name!r}")
        text = f"{before}{mark}{table.to_markdown()}\n{end}{after}"
    page.write_text(text, encoding="utf-8")
