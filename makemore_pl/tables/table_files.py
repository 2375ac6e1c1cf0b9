"""Tables read from files batch by batch: text, CSV, JSON and Parquet."""

import csv
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeAlias, TypeVar

from makemore_pl.errors import DataError
from makemore_pl.files import file_size
from makemore_pl.parsing.names_io import read_lines, read_stdin
from makemore_pl.scoring.arrow import arrow

Item = TypeVar("Item")
Columns: TypeAlias = dict[str, Any]
"""Columns by name, each a list or an Arrow array."""
NAME = "name"
"""The column of names, where a file does not say it."""
ROWS_AT_ONCE = 1 << 16
BYTES_AT_ONCE = 1 << 26
"""Of a Parquet file's batches, uncompressed."""
MOST_CHARACTERS = 1 << 24
"""Of one JSON value."""
BETWEEN = re.compile(r"[\s,\[\]]*")
"""Characters that may stand between the objects of a file: line ends, or the signs of an array."""


class Batch(NamedTuple):
    """Some rows of a table, and the share of it that is read so far."""

    columns: Columns
    share: float | None = None  # 0 to 1, if it is known


class TableFile(NamedTuple):
    """An open table."""

    batches: Iterator[Batch]
    schema: Any = None  # Arrow's, of a Parquet file


def form_of(file: Path | None) -> str:
    """The form that a file's name tells: text, csv, json, jsonl or parquet."""
    suffix = file.suffix.lower() if file else ""
    forms = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
    return forms.get(suffix, "text")


def read_table(file: Path | None) -> TableFile:
    """Open a table.

    Args:
        file: its form is told by its name; None is standard input, which is text.

    Raises:
        DataError: there is no such file, or it is damaged; also while batches are read.
        MissingPackageError: pyarrow is needed for Parquet.
    """
    if file is None:
        return TableFile(Batch({NAME: names}) for names in _parts(read_stdin()))
    size = file_size(file, DataError)
    form = form_of(file)
    if form == "parquet":
        return _read_parquet(file)
    return TableFile(_read_text(file, form, size))


def _read_text(file: Path, form: str, size: int) -> Iterator[Batch]:
    read = {"text": _read_names, "csv": _read_csv, "json": _read_json, "jsonl": _read_json}[form]
    try:
        text: TextIO = file.open(encoding="utf-8-sig", newline="" if form == "csv" else None)
        with text:
            for columns in read(text, str(file)):
                yield Batch(columns, text.buffer.tell() / max(size, 1))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 ({error.reason})") from error


def _parts(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Lists of items; one at least, empty if there are none."""
    yield list(islice(items, ROWS_AT_ONCE))
    while part := list(islice(items, ROWS_AT_ONCE)):
        yield part


def _read_names(text: TextIO, source: str) -> Iterator[Columns]:
    for names in _parts(read_lines(text, source)):
        yield {NAME: names}


def _read_csv(text: TextIO, source: str) -> Iterator[Columns]:
    """Values as they stand, but for empty ones, which are none; columns are named in the first line."""
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise DataError(f"{source}: empty; the first line should name the columns")
        for rows in _parts(reader):
            if {len(row) for row in rows} - {len(header)}:
                rows = [row for row in rows if row]  # blank lines
                if bad := [row for row in rows if len(row) != len(header)]:
                    raise DataError(
                        f"{source}, up to line {reader.line_num:,}: {len(bad[0]):,} values "
                        f"where {len(header):,} columns are named: {','.join(bad[0])!r:.80}"
                    )
            columns = zip(*rows, strict=True) if rows else ([] for _ in header)
            yield {n: [v or None for v in c] for n, c in _named(header, columns, source)}
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num:,}: not CSV ({error})") from error


def _named(header: list[str], columns: Any, source: str) -> list[tuple[str, Any]]:
    if len(set(header)) < len(header):
        raise DataError(f"{source}: two columns have the same name: {', '.join(header):.200}")
    return list(zip(header, columns, strict=True))


def _read_json(text: TextIO, source: str) -> Iterator[Columns]:
    """Objects, one a line or in an array. The first batch has all keys; one that is left out is null."""
    names: dict[str, None] = {}
    for rows in _parts(_json_objects(text, source)):
        keys = dict.fromkeys(key for row in rows for key in row)
        names = names or keys or {NAME: None}
        if new := keys.keys() - names.keys():
            raise DataError(f"{source}: a key that the first {ROWS_AT_ONCE:,} objects lack: {min(new)!r:.60}")
        yield {name: [row.get(name) for row in rows] for name in names}


def _json_objects(text: TextIO, source: str) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    buffer, n_objects, is_array, between = "", 0, False, ""
    while True:
        more = text.read(1 << 16)
        is_array = is_array or (n_objects == 0 and (buffer + more).lstrip().startswith("["))
        buffer += more
        place = 0
        while True:
            if match := BETWEEN.match(buffer, place):
                between, place = match[0] or between, match.end()
            if place == len(buffer):
                break
            try:
                item, end = decode(buffer, place)
            except (json.JSONDecodeError, RecursionError) as error:
                if more and len(buffer) - place < MOST_CHARACTERS and not isinstance(error, RecursionError):
                    break  # cut off: the rest comes with the next part
                raise DataError(f"{source}, after {n_objects:,} objects: not JSON ({error})") from error
            if not isinstance(item, dict):
                raise DataError(
                    f"{source}, after {n_objects:,} objects: expected an object, found {item!r:.60}"
                )
            yield item
            n_objects, place, between = n_objects + 1, end, ""
        buffer = buffer[place:]
        if not more:
            if is_array and "]" not in between:
                raise DataError(f"{source}: cut off after {n_objects:,} objects")
            return


@contextmanager
def parquet_errors(source: Path) -> Iterator[None]:
    """Errors of reading a Parquet file as ours."""
    pa = arrow()
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source}: not a readable Parquet file ({error!s:.200})") from error


def _read_parquet(file: Path) -> TableFile:
    with parquet_errors(file):
        import pyarrow.parquet as parquet

        # Buffered: else all of a row group's column is read at once.
        opened = parquet.ParquetFile(os.fspath(file), buffer_size=1 << 20)
    schema = opened.schema_arrow
    _named(schema.names, schema.names, str(file))
    n_rows = opened.metadata.num_rows
    n_bytes = sum(opened.metadata.row_group(i).total_byte_size for i in range(opened.num_row_groups))
    rows_at_once = max(1, min(ROWS_AT_ONCE * 4, BYTES_AT_ONCE * n_rows // max(n_bytes, 1)))

    def batches() -> Iterator[Batch]:
        done = 0
        if n_rows == 0:
            yield Batch(dict(zip(schema.names, schema.empty_table().columns, strict=True)))
        with opened, parquet_errors(file):
            for batch in opened.iter_batches(rows_at_once):
                done += len(batch)
                yield Batch(dict(zip(schema.names, batch.columns, strict=True)), done / max(n_rows, 1))

    return TableFile(batches(), schema)
