"""Lists of names: the shipped one, makemore's, or the user's file, read some names at a time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from makemore_pl.data.makemore_list import makemore_list
from makemore_pl.errors import DataError
from makemore_pl.files import reading
from makemore_pl.reading.lines import BLOCK_BYTES, read_names
from makemore_pl.reading.looks import LOOKED_AT, first_looks_like_title, looks_otherwise
from makemore_pl.reading.name_tables import TABLES, read_table
from makemore_pl.reading.rows import NO_COLUMNS, Columns, Rows
from makemore_pl.text import NFC, TextRules


@dataclass(frozen=True)
class NameList:
    """A list of names that has been found but not read.

    Attributes:
        name: short name of the list.
        file: a text file, one name per line, or a table.
        sha256: SHA-256 of the file's bytes, hexadecimal.
        columns: where names, weights and labels stand in a table.
        rules: how names are normalised.
    """

    name: str
    file: Path
    sha256: str
    columns: Columns = NO_COLUMNS
    rules: TextRules = NFC

    @property
    def is_table(self) -> bool:
        return self.columns.are_given or self.file.suffix.lower() in TABLES

    def blocks(self) -> Iterator[Rows]:
        """The names in the file's order, repetitions included, some 100,000 at a time.

        Raises:
            DataError: with file and line number, where a line is not a name, or a row not what it should be.
        """
        if self.is_table:
            yield from read_table(self.file, self.columns, self.rules)
        else:
            with self.file.open("rb") as file:
                yield from read_names(file, str(self.file), self.rules)

    def names(self) -> list[str]:
        """All names at once."""
        return [name for rows in self.blocks() for name in rows.names]

    def news(self, n_respelled: int) -> Iterator[str]:
        """Lines that the user should see: that the file looks like a table, or that names were normalised."""
        if not self.columns.have_titles and self.file.suffix.lower() != ".parquet":
            rows = next(self.blocks()).first(LOOKED_AT)
            looks = None if self.is_table else looks_otherwise(rows.names)
            if looks := looks or first_looks_like_title(rows):
                yield f"{self.file}: {looks}"
        if n_respelled:
            are = "name is" if n_respelled == 1 else "names are"
            yield (
                f"{self.file}: {n_respelled:,} {are} spelled otherwise now: brought into "
                f"{self.rules.normalize.upper()}, or rid of marks that nobody sees (data.normalize)"
            )


def find_list(path: str, columns: Columns = NO_COLUMNS, rules: TextRules = NFC) -> NameList:
    """Find `names`, the shipped list; `makemore`, the lectures' list; or a file (`./names` is always one).

    Args:
        path: which one.
        columns, rules: as in `NameList`.

    Raises:
        DataError: the file is missing, cannot be read, or is a pipe or a device.
    """
    known = {"names": _shipped_list, "makemore": makemore_list}
    file = known[path]() if path in known else Path(path)
    digest = hashlib.sha256()
    with reading(file, DataError), file.open("rb") as content:  # no pipe: a list is read twice
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
    # On POSIX a file's name may hold bytes that are not text.
    name = path if path in known else file.stem.encode("utf-8", "replace").decode()
    return NameList(name, file, digest.hexdigest(), columns, rules)


def _shipped_list() -> Path:
    package = Path(__file__).parents[1]
    for folder in (package / "data", package.parent / "data"):  # in a wheel, in a checkout
        if (folder / "names.txt").is_file():
            return folder / "names.txt"
    raise DataError("the list of names is missing from this installation; name a file with --data.path")
