"""`NameTable`: a name of its own for each row of a table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from makemore_pl.errors import DataError
from makemore_pl.exported.metadata import MODEL_FILE, SAMPLER_FILE, find_model
from makemore_pl.runtime.request import IdRequest, Wish
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.scoring.arrow import arrow
from makemore_pl.tables.table_function import TableFunction, expect_label_source


class NameTable(TableFunction):
    """Adds a column of names to tables: for each id the name that `Sampler.for_ids` gives it.

    A whole number is the id of its decimal digits. So a column of row numbers is enough, and any range of
    rows can be made again alone (`rows`). A row without an id gets no name.

    Args:
        model: an export's folder or one of its ONNX files; None takes the newest under checkpoints/.
        column: the ids, texts or whole numbers.
        into: the new column.
        key: with another key, other names for the ids.
        label_column: the label of each name; rows without one get no name. If left out, the wish may have a
            label for all.
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
        label_column: str | None = None,
        **wish: Any,
    ) -> None:
        arrow()
        self._request = IdRequest((), key=key, **wish)  # refuses what is out of its range
        self._into = into
        path = find_model(model, SAMPLER_FILE, MODEL_FILE)
        info = _open_sampler(path, None).info
        expect_label_source(info, self._request.label, label_column)
        super().__init__(path, info, column, *([] if label_column is None else [label_column]))

    def rows(self, start: int, stop: int) -> Any:
        """Rows `start` to `stop` - 1 of the endless table of this model, key and wish.

        Returns:
            A `pyarrow.Table` with the ids (int64) and the names.
        """
        pa = arrow()
        return self(pa.table({self._reads[0]: pa.array(range(start, stop), pa.int64())}))

    def fields(self) -> list[tuple[str, Any]]:
        """Name and Arrow type of the new column."""
        return [(self._into, arrow().string())]

    def values(self, *columns: Any) -> list[Any]:
        """The new column's Arrow array, for a column of ids and, perhaps, of labels."""
        pa = arrow()
        ids, *labels = map(_decoded, columns)
        kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        if not any(is_kind(ids.type) for is_kind in (*kinds, pa.types.is_null)):
            raise DataError(f"ids: expected texts or whole numbers, found {ids.type}")
        texts = ids.cast(pa.string()).to_pylist()
        names: list[str | None] = [None] * len(texts)
        for label, rows in _rows_of_labels(texts, labels[0].to_pylist() if labels else None).items():
            ids_of_label = [texts[row] for row in rows]
            request = replace(self._request, ids=ids_of_label, label=label or self._request.label)
            found = self._opened(_open_sampler, request.wish()).for_ids(**vars(request))
            for row, name in zip(rows, found, strict=True):
                names[row] = name
        return [pa.array(names, pa.string())]


def _decoded(column: Any) -> Any:
    """The column in Arrow, not as a dictionary."""
    pa = arrow()
    array = pa.chunked_array(column) if hasattr(column, "__arrow_c_stream__") else pa.array(column)
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _rows_of_labels(ids: list[str | None], labels: list[Any] | None) -> dict[str, list[int]]:
    """The rows that get a name, by label; all have the label "" where none are given."""
    rows: dict[str, list[int]] = {}
    for row, (text, label) in enumerate(zip(ids, labels or [""] * len(ids), strict=True)):
        if text is None or (labels is not None and not label):
            continue
        if not isinstance(label, str):
            raise DataError(f"labels: expected texts, found {label!r:.60}")
        rows.setdefault(label, []).append(row)
    return rows


def _open_sampler(path: Path, wish: Wish | None) -> Sampler:
    # A sampler keeps what it has computed for a wish; so each wish has its own.
    return Sampler(path, prepare=False)  # its tables are for other ways to draw
