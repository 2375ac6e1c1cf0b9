"""Where a list of names comes from, and how it is read: the shipped list, makemore's, or the user's file."""

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rich.progress import wrap_file

from makemore_pl.errors import DataError
from makemore_pl.limits import file_size, require_memory

DEFAULT_LIST = "names"
"""Name of the shipped list: US first names of 2017, see data/README.md."""
MAKEMORE_LIST = "makemore"
"""Name of the list of Karpathy's makemore: US first names of 2018."""
MAKEMORE_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
MAKEMORE_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
MAX_NAME_LENGTH = 256
"""Longest line accepted, in characters. A longer one is rarely a name and more often a wrong file."""


@dataclass(frozen=True)
class NameList:
    """The names of a list, in its order, repetitions included.

    Attributes:
        name: short name of the list.
        names: the names.
        sha256: SHA-256 of the file's bytes, hexadecimal.
    """

    name: str
    names: list[str]
    sha256: str


def load_list(path: str) -> NameList:
    """Read the list that `path` stands for: `names`, `makemore`, or a file.

    Raises:
        DataError: the file cannot be had, or is no list of names.
    """
    file = resolve_list(path)
    size = file_size(file, DataError)
    require_memory(40 * size, f"{file}: {size:,} bytes × 40 as names in memory")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
    # A file's name may be bytes that are no text.
    stem = file.stem.encode("utf-8", "replace").decode()
    name = path if path in (DEFAULT_LIST, MAKEMORE_LIST) else stem
    return NameList(name, parse_names(content, str(file)), hashlib.sha256(content).hexdigest())


def resolve_list(path: str) -> Path:
    """The file that `path` stands for. A list's name wins over a file of that name; `./names` is the file."""
    if path == DEFAULT_LIST:
        return _shipped_list()
    if path == MAKEMORE_LIST:
        return _makemore_list()
    return Path(path)


def parse_names(content: bytes, source: str) -> list[str]:
    """The names in a file's bytes: UTF-8, one per line; outer spaces and blank lines are dropped.

    Args:
        content: the bytes; a byte order mark and LF or CRLF ends are accepted.
        source: the file's name, for messages.

    Raises:
        DataError: with file and line number, where the bytes are no list of names.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad_line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source}, line {bad_line}: not UTF-8 (byte 0x{content[error.start]:02X})"
        ) from error
    # Only LF and CRLF end a line: str.splitlines would also split at U+2028 and others.
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise DataError(f"{source}, line {number}: a NUL character; is this a text file?")
        if len(line.strip()) > MAX_NAME_LENGTH:
            raise DataError(
                f"{source}, line {number}: {len(line.strip()):,} characters, more than {MAX_NAME_LENGTH}; "
                "one name per line is expected"
            )
        if "\r" in line.strip():
            raise DataError(
                f"{source}, line {number}: a carriage return inside a name; use LF or CRLF line ends"
            )
    names = [name for line in lines if (name := line.strip())]
    if not names:
        raise DataError(f"{source}: no names in it; one name per line is expected")
    return names


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
    cached = _cache_dir() / "makemore-names.txt"
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


def _cache_dir() -> Path:
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
