"""Tables of names: CSV and its kin, and Parquet, read row by row."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from makemore_pl.errors import DataError
from makemore_pl.reading.lines import read_text
from makemore_pl.reading.rows import CARRIAGE_RETURN, ROWS, Columns, Record, Rows, rows_of
from makemore_pl.text import TextRules

SEPARATORS = "\t;|,"
"""Of those that divide most lines of a file alike, the first is taken; commas also stand in cells: 1,5."""
TABLES = (".csv", ".tsv", ".parquet")
"""Ends of the names of files that are always read as tables."""
LOOKED_AT = 200
"""Lines from which the separator is found."""


def read_table(file: Path, columns: Columns, rules: TextRules) -> Iterator[Rows]:
    """Read the names of a table, block by block.

    Args:
        file: Parquet if its name says so; else text, as in `read_names`, in the manner of CSV (RFC 4180).
        columns: where names, weights and labels stand.
        rules: how names are normalised.

    Raises:
        DataError: with file and line, where a row cannot be read.
    """
    if file.suffix.lower() == ".parquet":
        return rows_of(_parquet_records(file, columns), columns, rules, str(file), "row")
    return rows_of(_csv_records(file, columns), columns, rules, str(file), "line")


def _csv_records(file: Path, columns: Columns) -> Iterator[Record]:
    source = str(file)
    with file.open("rb") as content:
        blocks = (text for _, text in read_text(content, source))
        first_block = next(blocks)
        start = first_block.split("\n", LOOKED_AT)[:LOOKED_AT]
        separator = "\t" if file.suffix.lower() == ".tsv" else separator_of(start)
        # With its end, which a quoted cell may hold.
        lines = (line + "\n" for text in chain([first_block], blocks) for line in text.split("\n"))
        reader = csv.reader(lines, delimiter=separator)
        places: list[int | None] = []
        try:
            for cells in reader:
                line = reader.line_num
                if not any(map(str.strip, cells)):
                    continue  # a blank line, or one of separators alone
                if not places:
                    places = columns.places(cells, f"{source}, line {line}")
                    if columns.have_header(cells):
                        continue
                elif not columns.are_given and len(cells) > 1:
                    columns.places(cells, f"{source}, line {line}")  # says so
                last = max(place for place in places if place is not None)
                if last >= len(cells):
                    raise DataError(
                        f"{source}, line {line}: {len(cells)} column{'s' * (len(cells) > 1)}, "
                        f"and column {last + 1} is needed"
                    )
                name, weight, label = (None if place is None else cells[place] for place in places)
                yield line, name, weight, label
        except csv.Error as error:
            reason = str(error).partition(" - ")[0]  # without advice to programmers
            if "new-line" in reason:
                reason = CARRIAGE_RETURN.format("line")
            raise DataError(f"{source}, line {reader.line_num}: {reason}") from error


def separator_of(lines: Sequence[str]) -> str:
    """The character that divides the most of some lines into the same number of cells, more than one."""

    def alike(separator: str) -> int:
        sizes = Counter[int]()
        with suppress(csv.Error):  # of which reading the whole names the line
            sizes.update(len(cells) for cells in csv.reader(lines, delimiter=separator) if len(cells) > 1)
        return max(sizes.values(), default=0)

    return max(SEPARATORS, key=alike)  # the first of equals


def _parquet_records(file: Path, columns: Columns) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{file}: Parquet needs the package pyarrow: pip install 'makemore-pl[tables]', "
            "or in a clone: pip install -e '.[tables]'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            titles = table.schema_arrow.names
            places = columns.places(titles, str(file))
            wanted = list({titles[place]: None for place in places if place is not None})
            row = 1
            for batch in table.iter_batches(ROWS, columns=wanted):
                values = [
                    [None] * len(batch) if place is None else batch.column(titles[place]).to_pylist()
                    for place in places
                ]
                yield from zip(range(row, row + len(batch)), *values, strict=True)
                row += len(batch)
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise DataError(f"{file}: not a Parquet file that can be read ({error})") from error
