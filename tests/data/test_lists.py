import hashlib
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.data import makemore_list
from makemore_pl.data.lists import BLOCK_BYTES, MAX_NAME_LENGTH, find_list, read_names
from makemore_pl.errors import DataError


def names_in(content: bytes) -> list[str]:
    return [name for block in read_names(io.BytesIO(content), "list") for name in block]


def test_shipped_list_is_the_one_its_readme_describes() -> None:
    shipped = find_list("names")
    assert len(shipped.names()) == 32_469
    assert len(set(shipped.names())) == 29_910
    assert shipped.sha256 in (ROOT / "data" / "README.md").read_text()


@pytest.mark.parametrize(
    "content",
    [b"anna\nbo\n", b"anna\r\nbo\r\n", b"\xef\xbb\xbfanna\nbo", b"\n anna \n\n\tbo\n\n"],
    ids=["LF", "CRLF", "BOM", "blanks"],
)
def test_line_ends_and_blanks(content: bytes) -> None:
    assert names_in(content) == ["anna", "bo"]


def test_only_line_feeds_end_a_line() -> None:
    assert names_in("a\u2028b\nc\x0bd".encode()) == ["a\u2028b", "c\x0bd"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"anna\nb\xff\n", r"list, line 2: not UTF-8 \(byte 0xFF\)"),
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


@given(st.binary(max_size=200))
def test_any_bytes_give_names_or_a_data_error(content: bytes) -> None:
    try:
        names = names_in(content)
    except DataError:
        return
    assert names
    assert all(name == name.strip() and name and "\0" not in name and "\n" not in name for name in names)


def test_blocks_end_with_a_line() -> None:
    names = [f"na\u00efve{i}" for i in range(200_000)]
    content = "\n".join(names).encode()
    assert len(content) > 2 * BLOCK_BYTES
    assert names_in(content) == names


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        find_list(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="Is a directory"):
        find_list(str(tmp_path))


class _Server(http.server.BaseHTTPRequestHandler):
    content = b"anna\nbo\n"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The makemore list as a small one on loopback, no environment folder, and an empty cache."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(makemore_list, "URL", f"http://127.0.0.1:{server.server_port}/names.txt")
    monkeypatch.delenv("MAKEMORE_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path
    server.shutdown()
    thread.join()
    server.server_close()


def test_makemore_list_is_downloaded_once(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makemore_list, "SHA256", hashlib.sha256(_Server.content).hexdigest())
    assert find_list("makemore").names() == ["anna", "bo"]
    monkeypatch.setattr(makemore_list, "URL", "http://127.0.0.1:9/never-asked")
    assert find_list("makemore").names() == ["anna", "bo"]
    assert [file.name for file in (served / "makemore_pl").iterdir()] == ["makemore-names.txt"]


def test_download_with_another_hash_is_refused_and_not_kept(served: Path) -> None:
    with pytest.raises(DataError, match="not the makemore list"):
        find_list("makemore")
    assert list(served.iterdir()) == []


def test_download_without_network_says_what_to_do(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makemore_list, "URL", "http://127.0.0.1:9/nobody-listens")
    with pytest.raises(DataError, match="set MAKEMORE_DATA_DIR"):
        find_list("makemore")


def test_environment_folder_with_another_list_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names.txt").write_text("anna\n")
    monkeypatch.setenv("MAKEMORE_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="not the makemore list"):
        find_list("makemore")
