"""Lists of names with any bytes in them, and paths that are no lists."""

import io
import os
from pathlib import Path

import pytest
import torch
from helpers import RunCommand, assert_one_line_error
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.data.batches import windows
from makemore_pl.data.corpus import SPLITS, build_corpus
from makemore_pl.data.lists import find_list, read_names
from makemore_pl.errors import DataError

TEXTS = st.text(max_size=8).map(lambda text: text.encode("utf-8", "ignore"))
LINES = st.lists(st.one_of(st.binary(max_size=8), TEXTS))


@given(st.one_of(st.binary(max_size=300), LINES.map(b"\n".join)))
def test_any_list_survives_the_way_to_examples(content: bytes) -> None:
    """Bytes → names → ids → splits → contexts, and back to the names."""
    try:
        blocks = list(read_names(io.BytesIO(content), "list"))
        corpus = build_corpus(blocks, dedupe=True, seed=42)
    except DataError:
        return
    splits = {split: corpus.names(split) for split in SPLITS}
    different = {name for block in blocks for name in block}
    assert sorted(name for names in splits.values() for name in names) == sorted(different)
    for split, names in splits.items():
        assert names
        stream = torch.from_numpy(corpus.streams[split])
        contexts, targets = windows(stream, torch.arange(len(stream)), 3)
        assert len(contexts) == len(targets) == sum(len(name) + 1 for name in names)
        start = 0
        for name in names:
            assert corpus.vocabulary.decode(targets[start:].numpy()) == name
            assert not contexts[start].any()
            start += len(name) + 1


HOSTILE = {
    "empty": b"",
    "blank": b" \n\t\r\n",
    "two names": b"anna\nbo\n",
    "one name many times": b"anna\n" * 100,
    "not UTF-8": b"anna\n\xff\xfe\n",
    "UTF-16": "anna\nbo\n".encode("utf-16"),
    "a NUL": b"anna\nb\x00o\n",
    "a long line": b"x" * 10_000,
    "no line ends": b"anna, bo, cy " * 100,
    "old line ends": b"anna\rbo\rcy\r",
    "half a surrogate pair": b"anna\n\xed\xa0\x80\n",
    "a program": b"\x7fELF\x02\x01\x01" + bytes(100),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_lists_from_the_command_line(
    makemore: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_bytes(HOSTILE[case])
    result = makemore("fit", "--data.path", "list.txt")
    assert result.code == 2
    assert_one_line_error(result.err, "list.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


def test_lists_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(DataError, match="a pipe or a device"):
            find_list(str(path))


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX systems only")
def test_a_file_name_that_is_no_text(
    makemore: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"n\xffmes.txt")
    try:
        Path(name).write_text("\n".join(f"{a}nn{b}" for a in "aeio" for b in "aeio"))
    except OSError:
        pytest.skip("this file system wants names that are text")
    assert find_list(name).name == "n?mes"
    Path(name).write_text("anna\n")
    result = makemore("fit", "--data.path", name)
    assert result.code == 2
    assert_one_line_error(result.err, r"n\udcffmes.txt: 1 different name")
