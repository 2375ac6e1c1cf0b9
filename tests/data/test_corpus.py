import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.data import corpus_cache
from makemore_pl.data.batches import windows
from makemore_pl.data.corpus import SPLITS, Corpus, build_corpus, encode_names, name_places, take_names
from makemore_pl.data.corpus_cache import open_corpus
from makemore_pl.data.distinct import first_equals
from makemore_pl.data.lists import NameList, find_list
from makemore_pl.data.recoding import with_ids_of
from makemore_pl.errors import DataError, VocabularyError
from makemore_pl.reading.lines import read_names

NAMES = st.lists(st.text("abñ美", min_size=1, max_size=20), min_size=1, max_size=40)
TEXTS = st.text(max_size=8).map(lambda text: text.encode("utf-8", "ignore"))
LINES = st.lists(st.one_of(st.binary(max_size=8), TEXTS))


def test_stream_takes_one_byte_a_character_or_two() -> None:
    vocabulary, stream = encode_names([["ba", "b"]])
    assert vocabulary.characters == "ab"
    assert stream.dtype == np.uint8
    assert stream.tolist() == [2, 1, 0, 2, 0]
    many = "".join(chr(0x4E00 + i) for i in range(400))
    _, stream = encode_names([["一"], [many[::-1]]])
    assert stream.dtype == np.int16
    assert stream.tolist() == [1, 0, *range(400, 0, -1), 0]
    assert encode_names([[chr(sys.maxunicode)]])[1].tolist() == [1, 0]
    for n, dtype in ((255, np.uint8), (256, np.int16)):  # with the boundary, 256 ids fit in a byte
        _, stream = encode_names([[many[:n]]])
        assert stream.dtype == dtype
        assert stream.tolist() == [*range(1, n + 1), 0]


def test_more_characters_than_two_bytes_tell_apart() -> None:
    most = [chr(0x20000 + i) for i in range(32_767)]
    vocabulary, stream = encode_names([most])
    assert len(vocabulary) == 32_768
    assert stream.max() == 32_767
    with pytest.raises(DataError, match="32,768 different characters"):
        encode_names([[*most, "a"]])


@given(NAMES, st.integers(1, 7))
def test_blocks_make_no_difference(names: list[str], size: int) -> None:
    vocabulary, stream = encode_names([names])
    in_blocks, same = encode_names(names[i : i + size] for i in range(0, len(names), size))
    assert in_blocks == vocabulary
    assert same.tolist() == stream.tolist()


@given(NAMES)
def test_first_equals_are_those_of_a_dict(names: list[str]) -> None:
    _, stream = encode_names([names])
    starts, lengths = name_places(stream)
    assert starts.dtype == lengths.dtype == np.int32  # wherever that is enough
    found = first_equals(stream, starts, lengths)
    assert found.tolist() == [names.index(name) for name in names]


@given(NAMES, st.integers(1, 5))
def test_names_are_taken_in_any_order(names: list[str], at_once: int) -> None:
    vocabulary, stream = encode_names([names])
    starts, lengths = name_places(stream)
    order = np.random.default_rng(len(names)).permutation(len(names))
    taken = take_names(stream, starts[order], lengths[order], at_once)
    assert Corpus(vocabulary, {"train": taken}, 0).names("train") == [names[i] for i in order]


def test_distinct_names_stand_in_one_split_only() -> None:
    corpus = build_corpus([[f"name{i % 50}" for i in range(200)]], dedupe=True, seed=42)
    splits = [corpus.names(split) for split in SPLITS]
    assert [len(names) for names in splits] == [40, 5, 5]
    assert len(set().union(*splits)) == 50
    assert corpus.longest_name == 6


def test_repetitions_are_kept_when_asked() -> None:
    corpus = build_corpus([["a", "b"] * 10], dedupe=False, seed=42)
    assert [len(corpus.names(split)) for split in SPLITS] == [16, 2, 2]


def test_eight_names_leave_one_to_each_split_and_fewer_are_refused() -> None:
    names = [f"n{i}" for i in range(8)]
    assert min(len(stream) for stream in build_corpus([names], dedupe=True, seed=42).streams.values()) == 3
    for n, message in ((1, "1 different name; at least 8"), (7, "7 different names; at least 8")):
        with pytest.raises(DataError, match=message):
            build_corpus([names[:n]], dedupe=True, seed=42)


def test_another_vocabulary() -> None:
    corpus = build_corpus([["ab", "ba", "a", "b", "aa", "bb", "aab", "abb"]], dedupe=True, seed=42)
    other = with_ids_of(corpus, "abc" + "".join(map(chr, range(0x4E00, 0x4F00))), None)
    assert other.streams["train"].dtype == np.int16
    assert other.names("train") == corpus.names("train")
    with pytest.raises(VocabularyError):
        with_ids_of(corpus, "a", None)


@given(st.one_of(st.binary(max_size=300), LINES.map(b"\n".join)))
def test_any_list_survives_the_way_to_examples(content: bytes) -> None:
    """Bytes → names → ids → splits → contexts, and back to the names."""
    try:
        blocks = list(read_names(io.BytesIO(content), "list"))
        corpus = build_corpus(blocks, dedupe=True, seed=42)
    except DataError:
        return
    different = {name for block in blocks for name in block.names}
    assert sorted(name for split in SPLITS for name in corpus.names(split)) == sorted(different)
    for split in SPLITS:
        stream = torch.from_numpy(corpus.streams[split])
        contexts, targets = windows(stream, torch.arange(len(stream)), 3)
        start = 0
        for name in corpus.names(split):
            assert not contexts[start].any()
            assert corpus.vocabulary.decode(targets[start:].numpy()) == name
            start += len(name) + 1
        assert start == len(contexts) > 0


@pytest.mark.makemore
def test_lectures_split_exactly(makemore_names: list[str]) -> None:
    corpus = build_corpus([makemore_names], dedupe=False, seed=42)
    assert len(corpus.vocabulary) == 27
    assert [len(corpus.streams[split]) for split in SPLITS] == [182_625, 22_655, 22_866]
    train = set(corpus.names("train"))
    assert sum(name in train for name in corpus.names("dev")) == 424


@pytest.fixture
def large_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NameList:
    """A list that counts as large, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus_cache, "CACHED_FROM", 0)
    file = tmp_path / "list.txt"
    file.write_text("".join(f"näme{i}\n" for i in range(100)), encoding="utf-8")
    return find_list(str(file))


def test_a_large_list_is_built_once_and_mapped(large_list: NameList, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build_corpus(large_list.blocks(), dedupe=True, seed=42)
    first = open_corpus(large_list, dedupe=True, seed=42)
    monkeypatch.setattr(corpus_cache, "build_corpus", None)  # would fail if it were called
    second = open_corpus(large_list, dedupe=True, seed=42)
    for corpus in (first, second):
        assert corpus.vocabulary == built.vocabulary
        assert corpus.longest_name == built.longest_name == 6
        for split in SPLITS:
            assert isinstance(corpus.streams[split], np.memmap)
            assert corpus.streams[split].tolist() == built.streams[split].tolist()


def test_another_split_seed_or_list_is_another_corpus(large_list: NameList) -> None:
    first = open_corpus(large_list, dedupe=True, seed=42)
    assert open_corpus(large_list, dedupe=True, seed=43).names("dev") != first.names("dev")
    large_list.file.write_text("".join(f"other{i}\n" for i in range(100)))
    changed = find_list(str(large_list.file))
    assert "other" in open_corpus(changed, dedupe=True, seed=42).names("dev")[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-3],
        lambda content: b"",
        lambda content: b"[1, 2]\n",
        lambda content: content[:-20] + bytes([content[-20] ^ 1]) + content[-19:],
    ],
    ids=["cut short", "empty", "another value", "a bit flipped"],
)
@pytest.mark.parametrize("damaged", ["corpus.json", "train.streams.npy"])
def test_a_damaged_cache_is_built_again(
    large_list: NameList, tmp_path: Path, damaged: str, damage: Callable[[bytes], bytes]
) -> None:
    expected = open_corpus(large_list, dedupe=True, seed=42).names("train")
    [file] = (tmp_path / "cache").rglob(damaged)
    intact = file.read_bytes()
    file.write_bytes(damage(intact))
    assert open_corpus(large_list, dedupe=True, seed=42).names("train") == expected
    [file] = (tmp_path / "cache").rglob(damaged)
    assert file.read_bytes() == intact


def test_a_full_disk_and_a_killed_process_leave_the_list_usable(
    large_list: NameList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(np, "save", fill_the_disk)
        assert len(open_corpus(large_list, dedupe=True, seed=42).names("train")) == 80
    corpora = tmp_path / "cache" / "makemore_pl" / "corpora"
    [lock] = corpora.iterdir()
    lock.with_suffix(".part").mkdir()  # of a process killed while it wrote
    open_corpus(large_list, dedupe=True, seed=42)
    assert {path.suffix for path in corpora.iterdir()} == {"", ".lock"}


def test_without_a_writable_cache_the_list_is_read_each_time(
    large_list: NameList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(open_corpus(large_list, dedupe=True, seed=42).names("train")) == 80
