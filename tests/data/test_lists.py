import hashlib
import io
import os
from pathlib import Path

import pytest
from helpers import ROOT, RunCommand

from makemore_pl.data import makemore_list
from makemore_pl.data.lists import find_list
from makemore_pl.errors import DataError
from makemore_pl.reading.lines import BLOCK_BYTES, read_names
from makemore_pl.reading.rows import MAX_NAME_LENGTH


def names_in(content: bytes) -> list[str]:
    return [name for block in read_names(io.BytesIO(content), "list") for name in block.names]


def test_shipped_list_is_the_one_its_readme_describes() -> None:
    shipped = find_list("names")
    assert len(shipped.names()) == 32_469
    assert len(set(shipped.names())) == 29_910
    assert shipped.sha256 in (ROOT / "data" / "README.md").read_text()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"anna\nbo\n", ["anna", "bo"]),
        (b"anna\r\nbo\r\n", ["anna", "bo"]),
        (b"\xef\xbb\xbfanna\nbo", ["anna", "bo"]),  # a byte order mark
        (b"\n anna \n\n\tbo\n\n", ["anna", "bo"]),
        ("a\u2028b\nc\x0bd".encode(), ["a\u2028b", "c\x0bd"]),  # only a line feed ends a line
    ],
)
def test_line_ends_and_blanks(content: bytes, names: list[str]) -> None:
    assert names_in(content) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"anna\nb\xff\n", r"list, line 2: not UTF-8 \(byte 0xFF\)"),
        (b"anna\n\xed\xa0\x80\n", r"list, line 2: not UTF-8 \(byte 0xED\)"),  # half a surrogate pair
        (b"anna\nbo\nc\0d\n", "list, line 3: a NUL character"),
        (b"anna\n" + b"x" * (MAX_NAME_LENGTH + 1), "list, line 2: 257 characters, more than 256"),
        (b"anna\rbo\rcy", "list, line 1: a carriage return"),
        (b"anna\n" * 400_000 + b"b\xff", r"list, line 400001: not UTF-8 \(byte 0xFF\)"),
        (b"a\n" + b"\xff" * 3 * BLOCK_BYTES, "list, line 2: no line end in 1,048,576 bytes"),
        (b"", "list: no names in it"),
        (b" \n\n", "list: no names in it"),
    ],
)
def test_bad_lists_are_refused_with_the_line(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        names_in(content)


def test_blocks_end_with_a_line() -> None:
    names = [f"na\u00efve{i}" for i in range(200_000)]
    content = "\n".join(names).encode()
    assert len(content) > 2 * BLOCK_BYTES
    assert names_in(content) == names


def test_paths_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "none.txt", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "pipe", "a pipe or a device"),
        (Path("/dev/zero"), "a pipe or a device"),
    ):
        with pytest.raises(DataError, match=message):
            find_list(str(path))


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX systems only")
def test_a_file_name_that_is_not_text(makemore: RunCommand, cwd: Path) -> None:
    name = os.fsdecode(b"n\xffmes.txt")
    try:
        Path(name).write_text("anna\n")
    except OSError:
        pytest.skip("this file system accepts only names that are text")
    assert find_list(name).name == "n?mes"
    makemore("fit", "--data.path", name).fails_with(r"n\udcffmes.txt: 1 different name")
    assert [path.name for path in cwd.iterdir()] == [name]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A short list in place of the makemore list's address, no folder of the user's, and an empty cache."""
    file = tmp_path / "served.txt"
    file.write_text("anna\nbo\n")
    monkeypatch.setattr(makemore_list, "URL", file.as_uri())
    monkeypatch.setattr(makemore_list, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.delenv("MAKEMORE_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return file


def test_makemore_list_is_downloaded_once(served: Path, tmp_path: Path) -> None:
    assert find_list("makemore").names() == ["anna", "bo"]
    served.unlink()
    assert find_list("makemore").names() == ["anna", "bo"]
    assert [file.name for file in (tmp_path / "cache" / "makemore_pl").iterdir()] == ["makemore-names.txt"]


def test_makemore_list_with_another_hash_is_refused_and_not_kept(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.write_text("anna\nbob\n")
    with pytest.raises(DataError, match="not the makemore list"):
        find_list("makemore")
    assert not (tmp_path / "cache").exists()
    served.rename(tmp_path / "names.txt")
    monkeypatch.setenv("MAKEMORE_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="not the makemore list"):
        find_list("makemore")


def test_download_without_network_says_what_to_do(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makemore_list, "URL", "http://127.0.0.1:9/nobody-listens")
    with pytest.raises(DataError, match="set MAKEMORE_DATA_DIR"):
        find_list("makemore")
