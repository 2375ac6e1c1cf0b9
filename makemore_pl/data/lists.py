"""Where a list of names comes from, and how it is read: the shipped list, makemore's, or the user's file."""

import codecs
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rich.progress import wrap_file

from makemore_pl.errors import DataError
from makemore_pl.files import file_size

DEFAULT_LIST = "names"
"""Name of the shipped list: US first names of 2017, see data/README.md."""
MAKEMORE_LIST = "makemore"
"""Name of the list of Karpathy's makemore: US first names of 2018."""
MAKEMORE_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
MAKEMORE_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
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
            DataError: with file and line number, where the bytes are no list of names.
        """
        with self.file.open("rb") as file:
            yield from read_names(file, str(self.file))

    def names(self) -> list[str]:
        """All names at once."""
        return [name for block in self.blocks() for name in block]


def find_list(path: str) -> NameList:
    """The list that `path` stands for: `names`, `makemore`, or a file.

    Raises:
        DataError: the file cannot be had.
    """
    file = resolve_list(path)
    file_size(file, DataError)  # no pipe: a list is read twice
    try:
        with file.open("rb") as content:
            digest = hashlib.sha256()
            while block := content.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
    # A file's name may be bytes that are no text.
    stem = file.stem.encode("utf-8", "replace").decode()
    return NameList(path if path in (DEFAULT_LIST, MAKEMORE_LIST) else stem, file, digest.hexdigest())


def resolve_list(path: str) -> Path:
    """The file that `path` stands for. A list's name wins over a file of that name; `./names` is the file."""
    if path == DEFAULT_LIST:
        return _shipped_list()
    if path == MAKEMORE_LIST:
        return _makemore_list()
    return Path(path)


def read_names(file: BinaryIO, source: str) -> Iterator[list[str]]:
    """The names in a file, block by block: UTF-8, one per line; outer spaces and blank lines are dropped.

    Args:
        file: open for reading; a byte order mark and LF or CRLF ends are accepted.
        source: the file's name, for messages.

    Raises:
        DataError: with file and line number, where the bytes are no list of names.
    """
    found = False
    for first_line, content in _whole_lines(file, source):
        if names := parse_names(content, source, first_line):
            found = True
            yield names
    if not found:
        raise DataError(f"{source}: no names in it; one name per line is expected")


def parse_names(content: bytes, source: str, first_line: int = 1) -> list[str]:
    """The names in some whole lines of a file.

    Args:
        content: the lines' bytes.
        source: the file's name, for messages.
        first_line: number of the first of these lines in the file.

    Raises:
        DataError: with file and line number, where a line is no name.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        bad_line = first_line + content.count(b"\n", 0, error.start)
        raise DataError(
            f"{source}, line {bad_line}: not UTF-8 (byte 0x{content[error.start]:02X})"
        ) from error
    # Only LF and CRLF end a line: str.splitlines would also split at U+2028 and others.
    lines = text.split("\n")
    names = [name for line in lines if (name := line.strip())]
    if "\0" in text or "\r" in "".join(names) or max(map(len, names), default=0) > MAX_NAME_LENGTH:
        _refuse_bad_line(lines, source, first_line)
    return names


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


def _refuse_bad_line(lines: list[str], source: str, first_line: int) -> None:
    """Say which of the lines is no name, and why."""
    for number, line in enumerate(lines, start=first_line):
        name = line.strip()
        if "\0" in line:
            raise DataError(f"{source}, line {number}: a NUL character; is this a text file?")
        if len(name) > MAX_NAME_LENGTH:
            raise DataError(
                f"{source}, line {number}: {len(name):,} characters, more than {MAX_NAME_LENGTH}; "
                "one name per line is expected"
            )
        if "\r" in name:
            raise DataError(
                f"{source}, line {number}: a carriage return inside a name; use LF or CRLF line ends"
            )


def _shipped_list() -> Path:
    package = Path(__file__).parents[1]
    for folder in (package / "data", package.parent / "data"):  # in a wheel, in a checkout
        if (folder / "names.txt").is_file():
            return folder / "names.txt"
    raise DataError(
        "the shipped list of names is missing from this installation; name a file with --data.path"
    )


def _makemore_list() -> Path:
    """From $MAKEMORE_DATA_DIR, else the user's cache, else downloaded into it; its hash is always checked."""
    folder = os.environ.get("MAKEMORE_DATA_DIR")
    cached = cache_dir() / "makemore-names.txt"
    for file in ([Path(folder) / "names.txt"] if folder else []) + [cached]:
        if file.is_file():
            _check_sha256(file.read_bytes(), str(file))
            return file
    content = _download(MAKEMORE_URL)
    _check_sha256(content, MAKEMORE_URL)
    cached.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that an interrupted download leaves no half list.
    with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as part:
        part.write(content)
    Path(part.name).replace(cached)
    return cached


def cache_dir() -> Path:
    """The user's cache, below which this project keeps what it can make or fetch again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "makemore_pl"


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # an https address of ours, not the user's
            total = int(response.headers.get("Content-Length", 0))
            with wrap_file(response, total=total, description="makemore list") as file:
                content: bytes = file.read()
                return content
    except (OSError, urllib.error.URLError) as error:
        raise DataError(
            f"the makemore list could not be downloaded ({error}); put its names.txt into a folder and "
            "set MAKEMORE_DATA_DIR to it"
        ) from error


def _check_sha256(content: bytes, source: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != MAKEMORE_SHA256:
        raise DataError(
            f"{source}: not the makemore list (SHA-256 {found[:12]}…, not {MAKEMORE_SHA256[:12]}…)"
        )
