"""Texts as one array of code points: from lists, NumPy arrays and everything that speaks Arrow."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import DataError
from makemore_pl.scoring.arrow import arrow

TEXTS_PER_PIECE = 1 << 16
"""Texts whose code points are held at a time."""
Codepoints: TypeAlias = NDArray[np.uint8] | NDArray[np.uint32]


class TextColumn(NamedTuple):
    """Several texts, one after the other, and where each begins. n texts of N characters together."""

    codepoints: Codepoints  # (N,); bytes where all of them are ASCII
    offsets: NDArray[np.int64]  # (n + 1,): text i is codepoints[offsets[i] : offsets[i + 1]]
    missing: NDArray[np.bool_]  # (n,): rows that hold no text, not even an empty one

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of each text, int64 (n,)."""
        return np.diff(self.offsets)

    def to_list(self) -> list[str]:
        """The texts, those that are missing as empty ones."""
        whole = self.codepoints.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        return [whole[start:end] for start, end in itertools.pairwise(self.offsets.tolist())]

    def parts(self, most: int) -> Iterator[slice]:
        """Rows in parts of at most so many characters and ends of texts, but of one row at least."""
        ends = self.offsets + np.arange(len(self.offsets))
        start = 0
        while start < len(self.missing):
            stop = int(np.searchsorted(ends, ends[start] + most, side="right")) - 1
            yield slice(start, max(stop, start + 1))
            start = max(stop, start + 1)


class Piece(NamedTuple):
    """Some rows of a column: texts, or places in a dictionary of them."""

    texts: TextColumn
    places: NDArray[np.int64] | None = None  # (rows,), of the text of each row, -1 for none; None: in order


def pieces(texts: Any) -> Iterator[Piece]:
    """Read a column of texts piece by piece.

    Args:
        texts: a list or another iterable of texts, in which None and NaN are missing; a NumPy array of texts
            or objects; or an Arrow array, chunked or not: strings of any layout, or a dictionary of them.
            What offers Arrow's C interface, as the columns of Polars, pandas and DuckDB do, is one, too.

    Raises:
        DataError: something is no text.
        MissingPackageError: pyarrow is needed for an Arrow array, and not installed.
    """
    if hasattr(texts, "__arrow_c_array__") or hasattr(texts, "__arrow_c_stream__"):
        pa = arrow()
        if not isinstance(texts, pa.Array | pa.ChunkedArray):
            texts = pa.chunked_array(texts)
        for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
            yield from _of_arrow(chunk)
        return
    rows = texts if isinstance(texts, np.ndarray) else list(texts)
    for start in range(0, len(rows), TEXTS_PER_PIECE):
        part = rows[start : start + TEXTS_PER_PIECE]
        yield Piece(of_list(part.tolist() if isinstance(part, np.ndarray) else part))


def of_list(texts: list[Any]) -> TextColumn:
    """All texts of a list, in which None and NaN are missing; errors as `pieces`."""
    missing = np.zeros(len(texts), dtype=np.bool_)
    try:
        joined = "".join(texts)
    except TypeError:
        missing[:] = [text is None or (isinstance(text, float) and text != text) for text in texts]
        texts = ["" if absent else text for text, absent in zip(texts, missing, strict=True)]
        for text in texts:
            if not isinstance(text, str):
                raise DataError(f"expected a text, found {text!r:.60} ({type(text).__name__})") from None
        joined = "".join(texts)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    if joined.isascii():
        return TextColumn(np.frombuffer(joined.encode(), dtype=np.uint8), offsets, missing)
    # Bytes of a command line that are not UTF-8 arrive as single surrogates.
    codepoints = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return TextColumn(codepoints.astype(np.uint32, copy=False), offsets, missing)


def _of_arrow(array: Any) -> Iterator[Piece]:
    pa = arrow()
    if pa.types.is_dictionary(array.type):
        if len(array.dictionary) > len(array):  # then most of it is not needed here
            yield from _of_arrow(array.dictionary_decode())
            return
        places = array.indices.cast(pa.int64()).fill_null(-1).to_numpy()
        yield Piece(_of_strings(array.dictionary), places)
        return
    for start in range(0, max(1, len(array)), TEXTS_PER_PIECE):
        yield Piece(_of_strings(array[start : start + TEXTS_PER_PIECE]))


def _of_strings(array: Any) -> TextColumn:
    """One Arrow array of UTF-8 texts, from its buffers."""
    pa = arrow()
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        if not (pa.types.is_string_view(array.type) or pa.types.is_null(array.type)):
            raise DataError(f"expected texts, found {array.type}")
        array = array.cast(pa.large_string())
    if not len(array):  # which may have no buffers
        return of_list([])
    missing = np.zeros(len(array), dtype=np.bool_)
    if array.null_count:
        missing = array.is_null().to_numpy(zero_copy_only=False)
        array = array.fill_null("")  # a missing text may have bytes, and any
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=width)[array.offset : array.offset + len(array) + 1]
    offsets = offsets.astype(np.int64)
    n_bytes = int(offsets[-1] - offsets[0])
    data = np.frombuffer(data_buffer, np.uint8, n_bytes, offsets[0]) if n_bytes else np.zeros(0, np.uint8)
    offsets -= offsets[0]
    if data.max(initial=0) < 0x80:
        return TextColumn(data, offsets, missing)
    try:
        codepoints = np.frombuffer(data.tobytes().decode().encode("utf-32-le"), dtype="<u4")
    except UnicodeDecodeError as error:
        raise DataError(f"a text is not UTF-8 ({error.reason})") from error
    starts = np.zeros(len(data) + 1, dtype=np.int64)  # characters before each byte
    np.cumsum(data & 0xC0 != 0x80, out=starts[1:])
    return TextColumn(codepoints.astype(np.uint32, copy=False), starts[offsets], missing)
