"""`NameTable`: a name of its own for each row of a table."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from makemore_pl.columns.arrow import arrow
from makemore_pl.errors import DataError
from makemore_pl.exported.metadata import MODEL_FILE, SAMPLER_FILE, find_model
from makemore_pl.runtime.request import IdRequest
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.tables.table_function import TableFunction


class NameTable(TableFunction):
    """Adds a column of names to tables: for each id the name that `Sampler.for_ids` gives it.

    A whole number is the id of its decimal digits. So a column of row numbers is enough, and any range of
    rows can be made again alone (`rows`). A row without an id gets no name.

    Args:
        model: an export's folder or one of its ONNX files; None takes the newest under checkpoints/.
        column: the ids, texts or whole numbers.
        into: the new column.
        key: with another key, other names for the ids.
        wish: which kind of names, see `makemore_pl.runtime.request.Wish`.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.
        RequestError: an option out of its range.
        MissingPackageError: pyarrow is not installed.
    """

    def __init__(
        self,
        model: Path | str | None = None,
        column: str = "id",
        into: str = "name",
        *,
        key: str = "",
        **wish: Any,
    ) -> None:
        arrow()
        self._request = IdRequest((), key=key, **wish)  # refuses what is out of its range
        self._into = into
        path = find_model(model, SAMPLER_FILE, MODEL_FILE)
        super().__init__(path, _open_sampler(path).info, column)

    def rows(self, start: int, stop: int) -> Any:
        """Rows `start` to `stop` - 1 of the endless table of this model, key and wish.

        Returns:
            A `pyarrow.Table` with the ids (int64) and the names.
        """
        pa = arrow()
        return self(pa.table({self._reads: pa.array(range(start, stop), pa.int64())}))

    def fields(self) -> list[tuple[str, Any]]:
        """Name and Arrow type of the new column."""
        return [(self._into, arrow().string())]

    def values(self, column: Any) -> list[Any]:
        """The new column's Arrow array, for a column of ids."""
        pa = arrow()
        ids = pa.chunked_array(column) if hasattr(column, "__arrow_c_stream__") else pa.array(column)
        if pa.types.is_dictionary(ids.type):
            ids = ids.cast(ids.type.value_type)
        kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        if not any(is_kind(ids.type) for is_kind in (*kinds, pa.types.is_null)):
            raise DataError(f"ids: expected texts or whole numbers, found {ids.type}")
        texts = ids.cast(pa.string()).to_pylist()
        options = {f.name: getattr(self._request, f.name) for f in fields(self._request)}
        options["ids"] = [text for text in texts if text is not None]
        names = iter(self._opened(_open_sampler, self._request.wish()).for_ids(**options))
        return [pa.array([None if text is None else next(names) for text in texts], pa.string())]


def _open_sampler(path: Path) -> Sampler:
    return Sampler(path, prepare=False)  # its tables are for other ways to draw
