"""pyarrow, where it is needed."""

from typing import Any

from makemore_pl.errors import MissingPackageError


def arrow() -> Any:
    """The package pyarrow.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingPackageError("a Parquet file or an Arrow table", "pyarrow", "columns") from error
    return pyarrow
