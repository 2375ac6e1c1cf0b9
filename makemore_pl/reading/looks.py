"""Plain lists that look as if they were something else: tables, JSON, or lists with comments."""

import re
from collections import Counter
from collections.abc import Sequence

from makemore_pl.reading.name_tables import separator_of
from makemore_pl.reading.rows import Rows

LOOKED_AT = 1000
"""Names from the beginning of a list."""
FEWEST = 8
"""Fewer names show no pattern."""
MOST = 0.5
"""Share of the names that must have the same number of columns: rows of a table may be ragged."""
NUMERIC = 0.9
"""Share of the cells that must be numbers, in a column of them."""
MOST_CLASSES = 0.25
"""Different values, as a share of the rows, in a column that seems to hold classes."""
TITLES = {"name", "names", "first name", "first_name", "firstname"}
"""Names that are rather a column's."""
_NUMBER = re.compile(r"[+-]?\d[\d.,]*")


def looks_otherwise(names: Sequence[str]) -> str | None:
    """A sentence about a list whose first lines look like something else, and what to do then."""
    if re.match(r'[\[{]\s*(["{\[]|$)', "".join(names[:1])):
        return "it looks like JSON, each line of which is taken for a name; write one name per line"
    comments = sum(name.startswith(("#", "//")) for name in names)
    if 0 < comments < len(names) / 2:
        shown = next(name for name in names if name.startswith(("#", "//")))
        return f"lines such as {shown[:30]!r} look like comments, and are taken for names; remove them"
    if len(names) < FEWEST:
        return None
    return _looks_like_table(names)


def first_looks_like_title(rows: Rows) -> str | None:
    """A sentence about a list or table whose first name looks like a column's title, and what to do then."""
    name, labels = rows.names[0], rows.labels
    has_title = name.casefold() in TITLES
    if labels and len(labels) >= FEWEST:
        has_title |= labels[0] not in labels[1:] and len(set(labels)) <= MOST_CLASSES * len(labels)
    if not has_title:
        return None
    return (
        f"its first line looks like a header, and {name[:30]!r} is taken for a name; "
        f"if it is a title: --data.name_column {name[:30]!r}, and other columns by their titles, too"
    )


def _looks_like_table(names: Sequence[str]) -> str | None:
    separator = separator_of(names)
    rows = [name.split(separator) for name in names]
    [(n_columns, n_alike)] = Counter(map(len, rows)).most_common(1)
    if n_columns > 1 and n_alike > MOST * len(rows):
        columns = list(zip(*(row for row in rows if len(row) == n_columns), strict=True))
        numeric = [i for i, column in enumerate(columns, start=1) if _are_numbers(column)]
        others = [i for i in range(1, n_columns + 1) if i not in numeric] or [1]
        classes = [i for i in others[1:] if len(set(columns[i - 1])) <= MOST_CLASSES * len(rows)]
        meant = {"name": others, "weight": numeric, "label": classes}
        options = " ".join(f"--data.{kind}_column {found[0]}" for kind, found in meant.items() if found)
        return (
            f"it looks like a table of {n_columns} columns, each line of which is taken for a name; "
            f"to read it as one: {options}"
        )
    if _are_numbers([name.split()[-1] for name in names]) and not _are_numbers(names):
        return (
            "its lines end with numbers, which are taken for parts of names; if they are counts, put tabs "
            "before them and give --data.weight_column 2"
        )
    return None


def _are_numbers(cells: Sequence[str]) -> bool:
    return sum(_NUMBER.fullmatch(cell.strip()) is not None for cell in cells) >= NUMERIC * len(cells)
