"""The contexts that are compared: all of them, or the list's and random ones."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from makemore_pl.context_space import ContextSpace
from makemore_pl.data.corpus import SPLITS
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import DataError
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof import contexts as contexts_module
from makemore_pl.proof.contexts import ContextSet, contexts_to_compare
from makemore_pl.runs.checkpoint import Checkpoint


def test_all_contexts_each_once() -> None:
    contexts = ContextSet(vocab_size=7, block_size=3)
    seen = np.concatenate(list(contexts.chunks()))
    assert contexts.exhaustive
    assert not contexts.list_missing
    assert len(seen) == len(contexts) == contexts.total == 343
    assert len(np.unique(seen, axis=0)) == 343
    assert seen.min() == 0
    assert seen.max() == 6


def test_chunks_cover_a_large_vocabulary_exactly() -> None:
    contexts = ContextSet(vocab_size=127, block_size=3)
    sizes = [len(chunk) for chunk in contexts.chunks()]
    assert contexts.exhaustive
    assert sum(sizes) == 127**3
    assert len(sizes) > 1


def test_contexts_of_a_wide_network_come_in_small_chunks() -> None:
    wide = next(ContextSet(27, 3, widest=1 << 20).chunks())
    assert len(wide) == 16
    assert len(next(ContextSet(27, 3).chunks())) == 16_384


def test_beyond_the_limit_corpus_and_random_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts_module, "RANDOM_CONTEXTS", 50_000)
    corpus = np.array([[1, 2, 3, 4, 5, 6, 7, 8]], dtype=np.uint8)
    contexts = ContextSet(vocab_size=27, block_size=8, corpus=corpus)
    chunks = list(contexts.chunks())
    assert not contexts.exhaustive
    assert sum(map(len, chunks)) == len(contexts) == 50_001
    assert chunks[0].tolist() == corpus.tolist()
    assert all(chunk.dtype == np.int64 for chunk in chunks)


def test_all_contexts_up_to_two_million() -> None:
    """2^21 of them are compared, one more is too many."""
    assert ContextSet(vocab_size=128, block_size=3).exhaustive
    assert ContextSet(vocab_size=2, block_size=21).exhaustive
    assert len(ContextSet(vocab_size=128, block_size=3)) == 128**3 == 2**21
    assert not ContextSet(vocab_size=2_097_153, block_size=1).exhaustive
    assert not ContextSet(vocab_size=2, block_size=22).exhaustive


def test_chunks_of_wide_networks_are_small() -> None:
    """A layer's values for one chunk stay within 4 MiB, and a chunk has some contexts however wide it is."""
    for v, widest, rows in ((27, 20, 16_384), (27, 512, 1_024), (27, 10**7, 16), (5_000, 0, 104)):
        chunks = ContextSet(vocab_size=v, block_size=3, widest=widest).chunks()
        assert len(next(chunks)) == rows


def test_a_large_vocabulary_is_checked_on_fewer_random_contexts() -> None:
    assert len(ContextSet(vocab_size=27, block_size=8)) == 1_000_000
    assert len(ContextSet(vocab_size=20_000, block_size=3)) == 2**28 // 20_000


@pytest.mark.parametrize("n_labels", [0, 1, 3])
def test_random_contexts_are_of_all_labels_and_characters(
    monkeypatch: pytest.MonkeyPatch, n_labels: int
) -> None:
    monkeypatch.setattr(contexts_module, "RANDOM_CONTEXTS", 20_000)
    contexts = ContextSet(vocab_size=27, block_size=8, n_labels=n_labels)
    found = np.concatenate([chunk for chunk in contexts.chunks() if len(chunk)])
    assert found.shape == (20_000, 8 + (n_labels > 0))
    *labels, _, _, _, _, _, _, _, _ = (set(column) for column in found.T.tolist())
    assert labels == [set(range(27, 27 + n_labels))] * (n_labels > 0)
    assert all(set(column) == set(range(27)) for column in found.T[-8:].tolist())


@pytest.mark.parametrize("n_labels", [0, 1, 3])
def test_contexts_and_their_numbers(n_labels: int) -> None:
    """Counting walks through all, the last character first."""
    space = ContextSpace(5, 2, n_labels)
    numbers = np.arange(25 * max(1, n_labels))
    contexts = space.contexts(numbers)
    assert space.total == len(numbers)
    assert contexts.tolist() == sorted(contexts.tolist())
    assert len(np.unique(contexts, axis=0)) == len(numbers)
    assert contexts[:, -2:].max() == 4
    assert contexts[:, :-2].ravel().tolist() == [5 + i // 25 for i in range(25 * n_labels)]
    assert space.numbers(contexts).tolist() == numbers.tolist()


class TrainedOn:
    """A checkpoint, as far as its list goes."""

    def __init__(self, data: NamesDataModule | None, block_size: int = 5) -> None:
        self.data, self.data_arguments = data, {"block_size": block_size}
        self.labels = data.labels if data else []

    def open_list(self) -> NamesDataModule:
        if self.data is None:
            raise DataError("it is gone")
        return self.data


def compared(data: NamesDataModule | None, **network: Any) -> ContextSet:
    sizes = {"vocab_size": 27, "block_size": 5, **network}
    if data is not None:
        sizes |= {"vocab_size": data.vocab_size, "block_size": data.block_size, "n_labels": data.n_labels}
    checkpoint = TrainedOn(data, sizes["block_size"])
    return contexts_to_compare(cast(Checkpoint, checkpoint), BatchNormMLP(**sizes))


@pytest.fixture
def labelled(tmp_path: Path, short_list: Path) -> NamesDataModule:
    rows = [f"{name},{'abc'[len(name) % 3]}" for name in short_list.read_text().split()]
    (tmp_path / "list.csv").write_text("\n".join(["name,kind", *rows]))
    columns = {"name_column": "name", "label_column": "kind"}
    return NamesDataModule(str(tmp_path / "list.csv"), block_size=8, **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize("with_labels", [False, True])
def test_every_context_of_the_list_is_compared(
    short_list: Path, labelled: NamesDataModule, monkeypatch: pytest.MonkeyPatch, with_labels: bool
) -> None:
    data = labelled if with_labels else NamesDataModule(str(short_list), block_size=8)
    due = torch.cat([data.examples(split)[0] for split in SPLITS]).unique(dim=0)
    monkeypatch.setattr(contexts_module, "EXAMPLES_AT_A_TIME", 100)
    found = compared(data)
    assert sorted(found.corpus.tolist()) == due.tolist()
    assert not found.list_missing
    assert len(found) == len(due) + 1_000_000
    # Of a very long list, some; none is read that is not needed.
    monkeypatch.setattr(contexts_module, "MOST_OF_CORPUS", 150)
    assert 150 <= len(compared(data).corpus) < 250
    monkeypatch.setattr(contexts_module, "MOST_OF_CORPUS", len(due))
    assert len(compared(data).corpus) == len(due)


def test_a_list_that_is_gone_and_one_that_is_not_needed() -> None:
    gone = compared(None)
    assert (gone.list_missing, gone.corpus.shape, len(gone)) == (True, (0, 5), 1_000_000)
    all_of_them = compared(None, block_size=3)
    assert (all_of_them.list_missing, len(all_of_them)) == (False, 27**3)


def test_the_widest_layer_decides_how_many_are_computed_at_a_time() -> None:
    assert compared(None, n_hidden=700, n_embd=10).widest == 700
    assert compared(None, n_hidden=30, n_embd=10).widest == 50
    assert compared(None, block_size=2, n_labels=4, n_hidden=20, n_embd=10).widest == 30


@pytest.mark.parametrize(
    ("vocab_size", "n_weights", "expected"),
    [(27, 12_097, 1_000_000), (27, 1 << 20, 1_000_000), (27, 1 << 22, 1 << 18), (1 << 10, 1, 1 << 18)],
)
def test_random_contexts_are_fewer_where_each_takes_long(
    vocab_size: int, n_weights: int, expected: int
) -> None:
    contexts = ContextSet(vocab_size, 8, n_weights=n_weights)
    assert contexts.n_random == expected
    assert len(contexts) == expected == sum(len(chunk) for chunk in contexts.chunks())
