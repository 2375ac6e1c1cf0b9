"""Tables written batch by batch, to a file or standard output: CSV, JSON and Parquet."""

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, BinaryIO, TextIO

import numpy as np

from makemore_pl.errors import DataError
from makemore_pl.parsing.names_io import write_rows
from makemore_pl.scoring.arrow import arrow

FORMS = ("text", "json", "jsonl", "csv", "parquet")
"""Of a command's output, the default first."""


def write_table(
    form: str, batches: Iterator[Mapping[str, Any]], target: BinaryIO | None, schema: Any
) -> None:
    """Write all batches.

    Args:
        form: csv, json, jsonl or parquet.
        batches: one at least: columns by name, the same in each. They are lists, NumPy arrays in which NaN is
            null, or Arrow arrays.
        target: a file; None is standard output.
        schema: Arrow's, of columns with types of their own; None if there are none.

    Raises:
        DataError: a column has values of several types.
    """
    if form == "parquet":
        assert target is not None
        _write_parquet(batches, target, schema)
        return
    first = next(batches)
    rows = (
        row for batch in chain([first], batches) for row in zip(*map(as_list, batch.values()), strict=True)
    )
    with text_output(target) as text:
        write_rows(form, list(first), rows, text)


@contextmanager
def text_output(target: BinaryIO | None) -> Iterator[TextIO]:
    """A text file over a binary one, with the encoding of standard output; None is that itself."""
    if target is None:
        yield sys.stdout
        return
    text = io.TextIOWrapper(target, encoding="utf-8", errors="backslashreplace", newline="\n")
    yield text
    text.detach()  # which writes what is left


def as_list(column: Any) -> list[Any]:
    """The values of a column, None for null."""
    if isinstance(column, list):
        return column
    if not isinstance(column, np.ndarray):
        values: list[Any] = column.to_pylist()
        return values
    values = column.tolist()
    if column.dtype.kind == "f" and np.isnan(column).any():
        values = [None if x != x else x for x in values]
    return values


def _write_parquet(batches: Iterator[Mapping[str, Any]], target: BinaryIO, schema: Any) -> None:
    pa = arrow()
    import pyarrow.parquet as parquet

    first = next(batches)
    fields = [_field(name, column, schema) for name, column in first.items()]
    complete = pa.schema(fields, schema.metadata if schema else None)
    # Figures hardly ever repeat: a dictionary of them would save nothing.
    repeated = [field.name for field in fields if not pa.types.is_floating(field.type)]
    with parquet.ParquetWriter(target, complete, use_dictionary=repeated) as writer:
        for batch in chain([first], batches):
            arrays = [_to_arrow(f.name, batch[f.name], f.type) for f in fields]
            writer.write_table(pa.Table.from_arrays(arrays, schema=complete))


def _field(name: str, column: Any, schema: Any) -> Any:
    pa = arrow()
    if schema is not None and name in schema.names:
        return schema.field(name)
    kind = _to_arrow(name, column).type
    return pa.field(name, pa.string() if pa.types.is_null(kind) else kind)


def _to_arrow(name: str, column: Any, kind: Any = None) -> Any:
    pa = arrow()
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return column
    try:
        return pa.array(column, kind, from_pandas=True)
    except pa.ArrowException as error:
        raise DataError(f"column {name!r}: values of several types ({error!s:.120})") from error
