"""Lists of names: the shipped one, makemore's, or the user's file, and how its lines are read."""

import codecs
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from makemore_pl.data.makemore_list import makemore_list
from makemore_pl.errors import DataError
from makemore_pl.files import file_size

BLOCK_BYTES = 1 << 20
"""A list is read in blocks of this size, so that memory does not grow with it."""
MAX_NAME_LENGTH = 256
"""Longest line accepted, in characters. A longer one is rarely a name and more often a wrong file."""


@dataclass(frozen=True)
class NameList:
    """A list of names that has been found but not read.

    Attributes:
        name: short name of the list.
        file: the text file.
        sha256: SHA-256 of the file's bytes, hexadecimal.
    """

    name: str
    file: Path
    sha256: str

    def blocks(self) -> Iterator[list[str]]:
        """The names in the file's order, repetitions included, some 100,000 at a time.

        Raises:
            DataError: with file and line number, where a line is not a name.
        """
        with self.file.open("rb") as file:
            yield from read_names(file, str(self.file))

    def names(self) -> list[str]:
        """All names at once."""
        return [name for block in self.blocks() for name in block]


def find_list(path: str) -> NameList:
    """Find `names`, the shipped list; `makemore`, the lectures' list; or a file (`./names` is always one).

    Raises:
        DataError: the file is missing, cannot be read, or is a pipe or a device.
    """
    known = {"names": _shipped_list, "makemore": makemore_list}
    file = known[path]() if path in known else Path(path)
    file_size(file, DataError)  # a list is read twice, which a pipe cannot be
    digest = hashlib.sha256()
    try:
        with file.open("rb") as content:
            while block := content.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
    # On POSIX a file's name may hold bytes that are not text.
    name = path if path in known else file.stem.encode("utf-8", "replace").decode()
    return NameList(name, file, digest.hexdigest())


def read_names(file: BinaryIO, source: str) -> Iterator[list[str]]:
    """Read names block by block: UTF-8, one per line; outer spaces and blank lines are dropped.

    Args:
        file: open for reading; a byte order mark and LF or CRLF line ends are accepted.
        source: the file's name, for messages.

    Raises:
        DataError: with file and line number, where a line is not a name.
    """
    found = False
    for first_line, content in _whole_lines(file, source):
        if names := _names_of(content, source, first_line):
            found = True
            yield names
    if not found:
        raise DataError(f"{source}: no names in it; one name per line is expected")


def _whole_lines(file: BinaryIO, source: str) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, each with the number of its first line; a byte order mark is dropped."""
    line, rest = 1, file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)
    while block := file.read(BLOCK_BYTES):
        whole, line_end, rest = (rest + block).rpartition(b"\n")
        if line_end:
            yield line, whole
            line += whole.count(b"\n") + 1
        elif len(rest) > BLOCK_BYTES:
            raise DataError(
                f"{source}, line {line}: no line end in {BLOCK_BYTES:,} bytes; is this a text file?"
            )
    yield line, rest


def _names_of(content: bytes, source: str, first_line: int) -> list[str]:
    """The names in some whole lines, the first of which has the number `first_line`."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise DataError(
            f"{source}, line {line}: not UTF-8 (byte 0x{content[error.start]:02X}); "
            "to convert it: iconv -f LATIN1 -t UTF-8"
        ) from error
    # Only LF and CRLF end a line: str.splitlines would also split at U+2028 and others.
    lines = text.split("\n")
    names = [name for line in lines if (name := line.strip())]
    if "\0" in text or "\r" in "".join(names) or max(map(len, names), default=0) > MAX_NAME_LENGTH:
        number, reason = next(found for found in enumerate(map(_fault, lines), first_line) if found[1])
        raise DataError(f"{source}, line {number}: {reason}")
    return names


def _fault(line: str) -> str | None:
    """The reason why a line is not a name; None for a name."""
    name = line.strip()
    if "\0" in line:
        return "a NUL character; is this a text file?"
    if len(name) > MAX_NAME_LENGTH:
        return f"{len(name):,} characters, more than {MAX_NAME_LENGTH}; one name per line is expected"
    if "\r" in name:
        return "a carriage return inside a name; use LF or CRLF line ends"
    return None


def _shipped_list() -> Path:
    package = Path(__file__).parents[1]
    for folder in (package / "data", package.parent / "data"):  # in a wheel, in a checkout
        if (folder / "names.txt").is_file():
            return folder / "names.txt"
    raise DataError("the list of names is missing from this installation; name a file with --data.path")
