"""Weights and labels on their way from a table to batches. The oracles are dictionaries and loops."""

import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.data import batches as batches_module
from makemore_pl.data import corpus_cache
from makemore_pl.data.batches import BatchLoader
from makemore_pl.data.corpus import SPLITS, Corpus, build_corpus
from makemore_pl.data.corpus_cache import open_corpus
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.data.lists import NameList, find_list
from makemore_pl.data.recoding import with_ids_of
from makemore_pl.data.weighting import example_weights, label_ids, label_shares, unit_of_figures
from makemore_pl.errors import CheckpointError, DataError
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.reading.rows import Columns, Rows

ENOUGH = [(f"n{i}", 1.0, "x") for i in range(8)]
TABLE = st.lists(
    st.tuples(st.text("abé", min_size=1, max_size=2), st.integers(1, 9).map(float), st.sampled_from("xyz")),
    max_size=40,
).map(lambda table: table + ENOUGH)
Table = list[tuple[str, float, str]]


def built(table: Table, *, weights: bool = True, labels: bool = True, dedupe: bool = True) -> Corpus:
    """In blocks of 7 rows."""
    blocks = [
        Rows(
            [name for name, _, _ in part],
            [weight for _, weight, _ in part] if weights else None,
            [label for _, _, label in part] if labels else None,
        )
        for part in (table[i : i + 7] for i in range(0, len(table), 7))
    ]
    return build_corpus(blocks, dedupe=dedupe, seed=42)


def entries(corpus: Corpus, split: str) -> Table:
    names = corpus.names(split)
    weights = corpus.weights.get(split, np.ones(len(names))).tolist()
    labels = [corpus.labels[i] for i in corpus.label_ids[split]] if corpus.labels else [""] * len(names)
    return list(zip(names, weights, labels, strict=True))


@given(TABLE)
def test_a_name_stands_in_one_split_with_all_its_labels_and_weights_add_up(table: Table) -> None:
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for name, weight, label in table:
        sums[name, label] += weight
    corpus, plain = built(table), built(table, weights=False, labels=False)
    found = {(name, label): w for split in SPLITS for name, w, label in entries(corpus, split)}
    assert found == sums
    assert sum(len(entries(corpus, split)) for split in SPLITS) == len(sums)
    for split in SPLITS:  # the split is that of the names alone
        assert list(dict.fromkeys(corpus.names(split))) == plain.names(split)
    weighted = built(table, labels=False)
    for split in SPLITS:
        assert weighted.streams[split].tolist() == plain.streams[split].tolist()
        totals = Counter[str]()
        for name, weight, _ in table:
            totals[name] += weight  # type: ignore[assignment]
        assert [w for _, w, _ in entries(weighted, split)] == [totals[name] for name in weighted.names(split)]


def test_without_dedupe_each_row_stays_by_itself() -> None:
    table = ENOUGH + ENOUGH
    corpus = built(table, dedupe=False)
    assert sorted(row for split in SPLITS for row in entries(corpus, split)) == sorted(table)


@given(TABLE, st.booleans(), st.booleans(), st.integers(1, 3), st.sampled_from([4, 1 << 20]))
def test_batches_hold_every_example_by_its_weight_under_its_label(
    table: Table, with_weights: bool, with_labels: bool, block_size: int, stretch: int
) -> None:
    corpus = built(table, weights=with_weights, labels=with_labels)
    expected: Counter[tuple[int, ...]] = Counter()
    weights = example_weights(corpus, "train", 0.5)
    for i, (name, _, label) in enumerate(entries(corpus, "train")):
        context = [0] * block_size
        first = [len(corpus.vocabulary) + corpus.labels.index(label)] if with_labels else []
        for token in [*corpus.vocabulary.encode(name).tolist(), 0]:
            weight = 1.0 if weights is None else float(weights[i])
            expected[(*first, *context, token)] += weight  # type: ignore[assignment]
            context = [*context[1:], token]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "STRETCH", stretch)
        stream = torch.from_numpy(corpus.streams["train"])
        options = {"labels": label_ids(corpus, "train"), "weights": weights}
        found: Counter[tuple[int, ...]] = Counter()
        for batch in BatchLoader(stream, block_size, 5, seed=1, **options):
            for row, target, weight in zip(batch.rows, batch.targets, batch.weights, strict=True):
                found[(*batch.contexts[row].tolist(), int(target))] += float(weight)  # type: ignore[assignment]
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key], rel=1e-5) for key in expected)
    assert sum(found.values()) == pytest.approx(len(stream), rel=1e-5)


@given(TABLE, st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
def test_weights_of_names_and_shares_of_labels(table: Table, power: float, with_weights: bool) -> None:
    """Weights to a power, 1 on average over characters and ends; shares are sums of weights to that power."""
    corpus = built(table, weights=with_weights)
    for split in SPLITS:
        weights, rows = example_weights(corpus, split, power), entries(corpus, split)
        if power == 0 or not with_weights:
            assert weights is None
            continue
        mean = sum(w**power * (len(name) + 1) for name, w, _ in rows) / sum(
            len(name) + 1 for name, *_ in rows
        )
        assert weights.tolist() == pytest.approx([w**power / mean for _, w, _ in rows])
    sums = dict.fromkeys(corpus.labels, 0.0)
    for _, weight, label in entries(corpus, "train"):
        sums[label] += weight**power
    assert label_shares(corpus, power) == pytest.approx([x / sum(sums.values()) for x in sums.values()])
    assert label_shares(built(table, labels=False), power) == []


def test_weights_that_are_all_alike_change_nothing() -> None:
    """Bit for bit: they are added up as whole numbers."""
    names = find_list("names").names()[:2000]
    corpus = build_corpus([Rows(names, [7.0] * len(names))], dedupe=False, seed=42)
    assert example_weights(corpus, "train", 0) is None
    stream, weights = torch.from_numpy(corpus.streams["train"]), example_weights(corpus, "train", 0.5)
    plain, weighted = (BatchLoader(stream, 3, 64, seed=1, weights=w) for w in (None, weights))
    for one, other in zip(plain, weighted, strict=True):
        for part in ("contexts", "rows", "targets", "weights"):
            assert torch.equal(getattr(one, part), getattr(other, part))


def test_loss_and_gradient_are_those_of_weighted_examples() -> None:
    corpus = built([(name, float(i % 5 + 1), "x") for i, name in enumerate(find_list("names").names()[:200])])
    weights = example_weights(corpus, "train", 1)
    assert weights is not None
    stream = torch.from_numpy(corpus.streams["train"])
    model = BatchNormMLP(len(corpus.vocabulary), 3, n_hidden=8, batch_norm=False).double()
    contexts, targets = batches_module.windows(stream, torch.arange(len(stream)), 3)
    losses = F.cross_entropy(model(contexts.long()), targets.long(), reduction="none")
    expected = (losses * weights[batches_module.names_of(targets)]).sum()
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    loss = torch.zeros((), dtype=torch.float64)
    for batch in BatchLoader(stream, 3, 50, seed=1, weights=weights):
        loss = loss + batch.nll(model(batch.contexts).log_softmax(dim=1))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for found, gradient in zip(torch.autograd.grad(loss, list(model.parameters())), gradients, strict=True):
        assert torch.allclose(found, gradient, rtol=1e-5, atol=1e-5)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table that counts as large, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus_cache, "CACHED_FROM", 0)
    file = tmp_path / "list.csv"
    rows = (f"Name{i % 60},{'FM'[i // 60]},{i + 1}\n" for i in range(90))
    file.write_text("name,sex,n\n" + "".join(rows), encoding="utf-8")
    return file


def test_a_large_table_is_built_once_for_each_way_to_read_it(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(columns: Columns) -> Corpus:
        names: NameList = find_list(str(table), columns)
        return open_corpus(names, dedupe=True, seed=42)

    first, plain = opened(Columns("name", "n", "sex")), opened(Columns("name"))
    monkeypatch.setattr(corpus_cache, "build_corpus", None)  # would fail if it were called
    second = opened(Columns("name", "n", "sex"))
    assert isinstance(second.weights["train"], np.memmap)
    assert second.labels == first.labels == ("F", "M")
    for split in SPLITS:
        assert entries(second, split) == entries(first, split)
    assert opened(Columns("name")).labels == plain.labels == ()


def test_what_the_data_module_says_of_a_table(table: Path) -> None:
    options = {"name_column": "name", "weight_column": "n", "label_column": "sex"}
    data = NamesDataModule(str(table), **options, case="lower")
    state = data.state_dict()
    assert state["labels"] == list(data.labels) == ["F", "M"]
    assert (state["normalize"], state["case"], data.n_labels) == ("nfc", "lower", 2)
    assert sum(state["label_shares"]) == pytest.approx(1)
    contexts, targets = data.examples("dev")
    assert contexts.shape == (len(targets), 4)
    assert contexts[:, 0].unique().tolist() == [data.vocab_size, data.vocab_size + 1]
    places = torch.tensor([5, 0, 17])
    assert data.windows("dev", places)[0].tolist() == contexts[places].tolist()
    for weighted, unit in ((False, "each name counted once"), (True, "names counted by weight")):
        data = NamesDataModule(str(table), **options, weighted_figures=weighted)
        assert unit_of_figures(data.corpus, weighted) == f"nats per character, {unit}"
        [batch] = data.val_dataloader()
        assert (len(batch.weights.unique()) > 8) == weighted
    with pytest.raises(CheckpointError, match="the checkpoint has the labels"):
        NamesDataModule(str(table), name_column="name").load_state_dict(state)
    with pytest.raises(DataError, match="weight_power must be from 0 to 1, not 2"):
        NamesDataModule(str(table), **options, weight_power=2)


def test_labels_of_a_checkpoint() -> None:
    corpus = built([(f"n{i}", 1.0, "bd"[i % 2]) for i in range(20)])
    more = with_ids_of(corpus, None, ["a", "b", "c", "d"])
    for split in SPLITS:
        assert entries(more, split) == entries(corpus, split)
    for labels, message in (
        (["b"], "the labels 'b'; this list has the label 'd'"),
        ([], "no labels; this list has the label 'b'"),
    ):
        with pytest.raises(DataError, match=message):
            with_ids_of(corpus, None, labels)
    with pytest.raises(DataError, match=r"the labels 'b'; this list has none: give data.label_column"):
        with_ids_of(built(ENOUGH, labels=False), None, ["b"])


def test_many_labels_take_two_bytes() -> None:
    corpus = built([(f"n{i}", 1.0, f"label{i:03}") for i in range(300)])
    assert corpus.streams["train"].dtype == np.int16
    ids = label_ids(corpus, "train")
    assert ids is not None
    assert int(ids.max()) < len(corpus.vocabulary) + 300
    found = [corpus.labels[i - len(corpus.vocabulary)] for i in ids]
    assert found == [f"label{int(name[1:]):03}" for name in corpus.names("train")]


def test_a_list_followed_by_itself_in_another_form_is_one_list(tmp_path: Path) -> None:
    names = [f"{a}{b}é{c}" for a in "çÀñ" for b in "öabu" for c in "îxŷ"]
    file = tmp_path / "french.txt"
    text = "\n".join(names)
    file.write_text(f"{text}\n{unicodedata.normalize('NFD', text)}\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=f"{len(names)} names are spelled otherwise now.*NFC"):
        data = NamesDataModule(str(file))
    splits = [set(data.corpus.names(split)) for split in SPLITS]
    assert set().union(*splits) == set(names)
    assert sum(map(len, splits)) == len(names)
    plain = NamesDataModule(str(file), normalize="none")
    assert sum(len(plain.corpus.names(split)) for split in SPLITS) == 2 * len(names)
