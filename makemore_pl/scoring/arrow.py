"""pyarrow, where it is needed."""

from typing import Any

from makemore_pl.errors import MissingPackageError

EXTRA = "columns"
"""The extra of pyproject.toml that brings it."""


def arrow() -> Any:
    """The package pyarrow.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingPackageError("a Parquet file or an Arrow table", "pyarrow", EXTRA) from error
    return pyarrow
