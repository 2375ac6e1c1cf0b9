"""Names in, from a file or standard input; rows out, as JSON or CSV."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from makemore_pl.errors import DataError
from makemore_pl.exported.metadata import MAX_LENGTH
from makemore_pl.files import reading


def read_names(path: Path | str) -> list[str]:
    """Names of a UTF-8 file, one per line; outer spaces and blank lines are dropped.

    Raises:
        DataError: no such file, not UTF-8, or a line that is too long.
    """
    path = Path(path)
    with reading(path, DataError), path.open(encoding="utf-8-sig") as file:
        return list(read_lines(file, str(path)))


def read_stdin() -> Iterator[str]:
    """The same from standard input, as the lines come. Always UTF-8, whatever the locale says."""
    if sys.stdin is None:
        raise DataError("standard input is closed")
    with open(sys.stdin.fileno(), encoding="utf-8-sig", closefd=False) as file:
        yield from read_lines(file, "standard input")


def read_lines(file: TextIO, source: str) -> Iterator[str]:
    """Names of an open file; `source` is what messages call it."""
    number = 0
    try:
        # Not line by line: without line ends, one line would be all of the file.
        while line := file.readline(MAX_LENGTH + 2):
            number += 1
            if len(line.rstrip("\r\n")) > MAX_LENGTH:
                raise DataError(f"{source}, line {number}: more than {MAX_LENGTH:,} characters")
            if name := line.strip():
                yield name
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 ({error.reason})") from error


def write_rows(
    form: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], file: TextIO | None = None
) -> None:
    """Print rows as they come, by default on standard output.

    Args:
        form: json, an array of objects, one a line; jsonl, the objects alone; or csv, with a header.
        columns: names of the values in a row.
        rows: the values. What JSON does not know, as dates, is written as text.
        file: where else to print.
    """
    file = file or sys.stdout
    if form == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        return
    encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
    objects = (encode(dict(zip(columns, row, strict=True))) for row in rows)
    if form == "jsonl":
        file.writelines(f"{text}\n" for text in objects)
        return
    separator = "[\n"
    for text in objects:
        file.write(f"{separator}  {text}")
        separator = ",\n"
    file.write("\n]\n" if separator == ",\n" else "[]\n")
