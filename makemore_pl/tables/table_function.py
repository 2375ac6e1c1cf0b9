"""A function from a table to the same table with more columns, for every engine that speaks Arrow."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from makemore_pl.errors import ModelFileError, RequestError
from makemore_pl.exported.metadata import ModelInfo, modified
from makemore_pl.scoring.arrow import arrow


class Opened(Protocol):
    """A `Scorer` or a `Sampler`."""

    @property
    def info(self) -> ModelInfo:
        """The file's metadata."""


Model = TypeVar("Model", bound=Opened)
Purpose = TypeVar("Purpose", bound=Hashable)


class TableFunction(ABC):
    """Adds columns to tables. Rows stay as many, in their order, and all other columns as they are.

    It can be pickled, and a row's new values depend on that row alone: so an engine may split a table, send
    the parts to other processes, and compute lost parts again.
    """

    def __init__(self, path: Path, info: ModelInfo, *reads: str) -> None:
        self._path = path.absolute()
        self._export_id = info.export_id
        self._reads = reads

    @abstractmethod
    def fields(self) -> list[tuple[str, Any]]:
        """Names and Arrow types of the new columns."""

    @abstractmethod
    def values(self, *columns: Any) -> list[Any]:
        """The new columns' Arrow arrays, for the columns that are read, of any library that speaks Arrow."""

    def __call__(self, table: Any) -> Any:
        """Add the columns.

        Args:
            table: a `pyarrow.Table` or `RecordBatch`; a data frame of pandas or Polars; a
                `RecordBatchReader`, a DuckDB relation or anything else with Arrow's C stream; or an iterator
                of record batches.

        Returns:
            The same kind of table; for a stream, a `RecordBatchReader`; for an iterator, an iterator. These
            compute each batch when it is asked for.

        Raises:
            RequestError: there is no column to read, or there are columns with the new names already.
            DataError: the column holds something else than texts.
        """
        pa = arrow()
        if isinstance(table, pa.Table | pa.RecordBatch):
            return self._add_to_arrow(table)
        library = type(table).__module__.partition(".")[0]
        if library == "pandas":
            new = self._new_columns(table, table.columns)
            return table.assign(**{n: array.to_pandas().set_axis(table.index) for n, array in new.items()})
        if library == "polars" and hasattr(table, "hstack"):
            return table.hstack(type(table)(pa.table(self._new_columns(table, table.columns))))
        if hasattr(table, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(table)
            self._expect_columns(reader.schema.names)
            schema = reader.schema
            for name, kind in self.fields():
                schema = schema.append(pa.field(name, kind))
            return pa.RecordBatchReader.from_batches(schema, map(self._add_to_arrow, reader))
        if isinstance(table, Iterator):
            return map(self._add_to_arrow, table)
        raise RequestError(f"expected an Arrow table or a data frame, found {type(table).__name__}")

    def _add_to_arrow(self, table: Any) -> Any:
        for name, array in self._new_columns(table, table.schema.names).items():
            table = table.append_column(name, array)
        return table

    def _new_columns(self, table: Any, names: Iterable[str]) -> dict[str, Any]:
        self._expect_columns(list(names))
        arrays = self.values(*(table[name] for name in self._reads))
        return {name: array for (name, _), array in zip(self.fields(), arrays, strict=True)}

    def _expect_columns(self, names: Sequence[str]) -> None:
        expect_columns(names, self._reads, [name for name, _ in self.fields()])

    def _opened(self, opener: Callable[[Path, Purpose], Model], purpose: Purpose) -> Model:
        """The model, opened once in a process, however often this function is unpickled there.

        Args:
            opener: opens the model.
            purpose: what else it is told, and what tells two of them apart.

        Raises:
            ModelFileError: it is another model than before.
        """
        model: Model = _open_once(opener, self._path, modified(self._path), purpose)
        if model.info.export_id != self._export_id:
            raise ModelFileError(f"{self._path}: another model than the one that this function was made with")
        return model


@lru_cache(maxsize=8)
def _open_once(opener: Callable[[Path, Purpose], Any], path: Path, time: float, purpose: Purpose) -> Any:
    return opener(path, purpose)


def expect_columns(
    names: Sequence[str], reads: Sequence[str], new: Sequence[str], source: str = "table"
) -> None:
    """Check that a table has the columns that are read, once, and none of those that are added.

    Raises:
        RequestError: it is not so.
    """
    for name in reads:
        if names.count(name) != 1:
            many = "several columns" if name in names else "no column"
            raise RequestError(f"{source}: {many} {name!r}; there are {', '.join(map(str, names)):.500}")
    if taken := [name for name in new if name in names]:
        raise RequestError(f"{source}: the new column {taken[0]!r} is in the table already")


def expect_label_source(info: ModelInfo, label: str | None, label_column: str | None) -> None:
    """Check that labels come from one place, and that the model has them.

    Raises:
        RequestError: it is not so.
    """
    if label is not None:
        info.label_id(label)
    if label_column is not None and label is not None:
        raise RequestError("label and label_column: only one of them can be given")
    if label_column is not None and not info.labels:
        raise RequestError(f"label_column: the model's names have no labels, so none of {label_column!r:.60}")
