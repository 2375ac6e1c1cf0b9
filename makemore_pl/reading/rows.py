"""Names, and what stands beside them in a table: where a table holds them, and how values are read."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import TypeVar

from makemore_pl.errors import DataError
from makemore_pl.text import NFC, TextRules

MAX_NAME_LENGTH = 256
"""Longest name accepted, in characters. A longer one is rarely a name and more often a wrong file."""
MOST_WEIGHT = 1e15
"""Above it, sums of weights would lose single ones."""
NUL = "a NUL character; is this a text file, or UTF-16 without a byte order mark?"
CARRIAGE_RETURN = "a carriage return inside a {}; use LF or CRLF line ends"
ROWS = 1 << 16
"""Rows of a table that are read at a time."""

Column = int | str | None
"""A column by its number, from 1, or by its name in the header; None: there is none."""
Value = TypeVar("Value")
Record = tuple[int, object, object, object]
"""The number of a line or row, and the name, weight and label in it."""


@dataclass(frozen=True)
class Rows:
    """Some names of a list.

    Attributes:
        names: as they are learnt, in the list's order.
        weights: how often each counts, above 0; None: once.
        labels: the class of each; None: there are none.
        n_respelled: how many are spelled otherwise than in the file, but for spaces and case.
    """

    names: list[str]
    weights: list[float] | None = None
    labels: list[str] | None = None
    n_respelled: int = 0

    def first(self, n: int) -> "Rows":
        """The first n names, and what stands beside them."""
        return Rows(self.names[:n], self.weights and self.weights[:n], self.labels and self.labels[:n])


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold names, weights and labels.

    A column given by name, or by a number that no column has, is looked up in the table's first line, its
    header. Where all are given by number, or none is given, every line has a name. Names stand in column 1
    unless another is given.
    """

    name: Column = None
    weight: Column = None
    label: Column = None

    @property
    def are_given(self) -> bool:
        return (self.name, self.weight, self.label) != (None, None, None)

    @property
    def have_titles(self) -> bool:
        return any(isinstance(column, str) for column in (self.name, self.weight, self.label))

    def have_header(self, first: Sequence[str]) -> bool:
        """Tell whether the first line of a table is a header: one of the columns is given by its title."""
        given = (column for column in (self.name, self.weight, self.label) if column is not None)
        return not all(_is_number(column, first) for column in given)

    def places(self, first: Sequence[str], source: str) -> list[int | None]:
        """The place, from 0, of names, weights and labels in each row, by the header or the first row.

        Raises:
            DataError: there is no such column, or it is not clear which one is meant.
        """
        if not self.are_given and len(first) > 1:
            raise DataError(
                f"{source}: a table of {len(first)} columns ({_in_short(first)}); say which one holds the "
                "names: --data.name_column, by number or by its name in the header"
            )
        name = 1 if self.name is None else self.name
        return [_place(column, first, source) for column in (name, self.weight, self.label)]


NO_COLUMNS = Columns()


def _place(column: Column, first: Sequence[str], source: str) -> int | None:
    if column is None:
        return None
    if _is_number(column, first):
        return int(column) - 1
    wanted = NFC.spelled(str(column))
    found = [i for i, title in enumerate(first) if NFC.spelled(title) == wanted]
    if isinstance(column, int) and not found:
        raise DataError(f"{source}: no column {column}; there are {len(first)} ({_in_short(first)})")
    if len(found) != 1:
        several = f"{len(found)} columns" if found else "no column"
        raise DataError(f"{source}: {several} of the name {column!r}; its first line is {_in_short(first)}")
    return found[0]


def _is_number(column: Column, first: Sequence[str]) -> bool:
    """Tell whether a column is given by its number. A year, say, is a title: no table has so many columns."""
    return isinstance(column, int) and 1 <= column <= len(first)


def _in_short(cells: Sequence[str]) -> str:
    shown = ", ".join(repr(cell[:20]) for cell in cells[:6])
    return shown + (", …" if len(cells) > 6 else "")


def rows_of(
    records: Iterable[Record], columns: Columns, rules: TextRules, source: str, unit: str
) -> Iterator[Rows]:
    """Read a table's records, some at a time. Those without a name, and those of weight 0, are left out.

    Args:
        records: of the table.
        columns: which of name, weight and label they have.
        rules: how names and labels are normalised.
        source: the file's name, for messages.
        unit: what a record's number counts: `line` or `row`.

    Raises:
        DataError: with file and line, where a value is not what it should be; or there is no name at all.
    """

    def read(as_value: Callable[[object], Value], values: Iterable[object]) -> list[Value]:
        found = []
        for number, value in zip(numbers, values, strict=True):
            try:
                found.append(as_value(value))
            except ValueError as error:
                raise DataError(f"{source}, {unit} {number}: {error}") from None
        return found

    as_label = functools.cache(lambda value: label_of(value, rules))  # few of them, many times
    found = False
    records = iter(records)
    while chunk := list(islice(records, ROWS)):
        numbers, *values = zip(*chunk, strict=True)
        names, n_respelled = rules.names(read(name_of, values[0]))
        weights = None if columns.weight is None else read(weight_of, values[1])
        labels = None if columns.label is None else read(as_label, values[2])
        kept = [bool(name) and (weights is None or weights[i] > 0) for i, name in enumerate(names)]
        if not all(kept):
            names = list(compress(names, kept))
            weights = weights and list(compress(weights, kept))
            labels = labels and list(compress(labels, kept))
        if names:
            found = True
            yield Rows(names, weights, labels, n_respelled)
    if not found:
        raise DataError(f"{source}: no names in it")


def name_of(value: object) -> str:
    """A name without outer spaces; empty for an empty cell.

    Raises:
        ValueError: it is no name.
    """
    name = _text(value).strip()
    if reason := fault(name):
        raise ValueError(reason)
    return name


def label_of(value: object, rules: TextRules) -> str:
    """A label, normalised but for its case.

    Raises:
        ValueError: it is empty, or no line of text.
    """
    label = rules.spelled(_text(value))
    if not label:
        raise ValueError("the label is empty")
    if reason := fault(label):
        raise ValueError(f"the label: {reason}")
    return label


def weight_of(value: object) -> float:
    """A weight.

    Raises:
        ValueError: it is not a number, or out of range.
    """
    try:
        weight = float(value)  # type: ignore[arg-type]  # the error is what is asked for
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight <= MOST_WEIGHT:
        raise ValueError(f"the weight must be a number from 0 to {MOST_WEIGHT:g}, not {_text(value)[:40]!r}")
    return weight


def fault(line: str) -> str | None:
    """The reason why a line is not a name; None for a name."""
    name = line.strip()
    if "\0" in line:
        return NUL
    if len(name) > MAX_NAME_LENGTH:
        return f"{len(name):,} characters, more than {MAX_NAME_LENGTH}; one name per line is expected"
    if "\r" in name:
        return CARRIAGE_RETURN.format("name")
    if "\n" in name:
        return "a line end inside a name; is a quotation mark missing?"
    return None


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes | bytearray | list | dict):
        raise ValueError(f"text is expected, not {type(value).__name__}")
    return str(value)
