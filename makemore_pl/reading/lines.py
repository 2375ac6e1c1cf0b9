"""Lines of a text file, in blocks, so that memory does not grow with the file."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from makemore_pl.errors import DataError
from makemore_pl.reading.rows import MAX_NAME_LENGTH, NUL, Rows, fault
from makemore_pl.text import NFC, TextRules

BLOCK_BYTES = 1 << 20
"""A file is read in blocks of this size."""


def read_names(file: BinaryIO, source: str, rules: TextRules = NFC) -> Iterator[Rows]:
    """Read names block by block: one per line; outer spaces and blank lines are dropped.

    Args:
        file: open for reading; UTF-8, or UTF-16 that begins with a byte order mark; LF or CRLF line ends.
        source: the file's name, for messages.
        rules: how names are normalised.

    Raises:
        DataError: with file and line number, where a line is not a name.
    """
    found = False
    for first_line, text in read_text(file, source):
        # Only LF and CRLF end a line: str.splitlines would also split at U+2028 and others.
        lines = text.split("\n")
        names = [name for line in lines if (name := line.strip())]
        if "\r" in "".join(names) or max(map(len, names), default=0) > MAX_NAME_LENGTH:
            number, reason = next(found for found in enumerate(map(fault, lines), first_line) if found[1])
            raise DataError(f"{source}, line {number}: {reason}")
        spelled, n_respelled = rules.names(names)
        if spelled := [name for name in spelled if name]:
            found = True
            yield Rows(spelled, n_respelled=n_respelled)
    if not found:
        raise DataError(f"{source}: no names in it; one name per line is expected")


def read_text(file: BinaryIO, source: str) -> Iterator[tuple[int, str]]:
    """Blocks of whole lines, each with the number of its first line and without its last line end.

    Raises:
        DataError: with file and line number, where it is no text.
    """
    for line, content in _whole_lines(file, source):
        if (place := content.find(b"\0")) >= 0:
            line += content.count(b"\n", 0, place)
            raise DataError(f"{source}, line {line}: {NUL}")
        try:
            yield line, content.decode()
        except UnicodeDecodeError as error:
            line += content.count(b"\n", 0, error.start)
            raise DataError(
                f"{source}, line {line}: not UTF-8 (byte 0x{content[error.start]:02X}); "
                "to convert it: iconv -f LATIN1 -t UTF-8"
            ) from error


def _whole_lines(file: BinaryIO, source: str) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines in UTF-8, each with the number of its first line."""
    line, rest = 1, b""
    for block in _as_utf8(file, source):
        whole, line_end, rest = (rest + block).rpartition(b"\n")
        if line_end:
            yield line, whole
            line += whole.count(b"\n") + 1
        elif len(rest) > BLOCK_BYTES:
            raise DataError(
                f"{source}, line {line}: no line end in {BLOCK_BYTES:,} bytes; is this a text file?"
            )
    yield line, rest


def _as_utf8(file: BinaryIO, source: str) -> Iterator[bytes]:
    """The blocks of a file, without its byte order mark; UTF-16 is converted."""
    start = file.read(4)
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        raise DataError(f"{source}: UTF-32; to convert it: iconv -f UTF-32 -t UTF-8")
    utf16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(start[:2])
    if utf16 is None:
        # What a file is, a separator say, is told from its first block: so this must be no short one.
        block = start.removeprefix(codecs.BOM_UTF8) + file.read(BLOCK_BYTES)
        while block:
            yield block
            block = file.read(BLOCK_BYTES)
        return
    decoder = codecs.getincrementaldecoder(utf16)()
    line, block = 1, start[2:] + file.read(BLOCK_BYTES)
    while True:
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].decode(utf16).count("\n")
            raise DataError(f"{source}, line {line}: not UTF-16, as its byte order mark says") from error
        yield text.encode()
        line += text.count("\n")
        if not block:
            return
        block = file.read(BLOCK_BYTES)
