"""Sizes of files: only regular ones have one. Errors of the system: they name the file."""

from pathlib import Path

import pytest

from makemore_pl.errors import DataError
from makemore_pl.files import file_size, reading


def test_only_regular_files_have_a_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_size(tmp_path / "file", DataError) == 3
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero"), tmp_path / "a\0b"):
        with pytest.raises(DataError):
            file_size(path, DataError)


def test_errors_while_a_file_is_read_are_ours(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    with reading(file, DataError) as size:
        assert size == 3
    with pytest.raises(DataError, match=f"^{file}: Input/output error$"), reading(file, DataError):
        raise OSError(5, "Input/output error")
    with pytest.raises(DataError, match="Is a directory"), reading(tmp_path, DataError):
        pass
