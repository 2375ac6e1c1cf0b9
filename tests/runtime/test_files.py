"""Sizes of files: only regular ones have one."""

from pathlib import Path

import pytest

from makemore_pl.errors import DataError
from makemore_pl.files import file_size


def test_only_regular_files_have_a_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_size(tmp_path / "file", DataError) == 3
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero"), tmp_path / "a\0b"):
        with pytest.raises(DataError):
            file_size(path, DataError)
