"""A run on a list with labels, from its table to names: the files beside the checkpoint, read by hand."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import LABELS, RunCommand, open_graph
from numpy.typing import NDArray
from onnx import numpy_helper

from makemore_pl import Sampler, Scorer
from makemore_pl.errors import (
    ModelFileError,
    RejectionWarning,
    RequestError,
    VerificationError,
)
from makemore_pl.export.export import export_checkpoint, verify_file
from makemore_pl.exported.metadata import FORMS
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.runtime.decoding import Decoding
from makemore_pl.runtime.engines import GraphSampler, open_engine
from makemore_pl.runtime.request import Wish


@pytest.fixture
def run(labelled_run: Path) -> Path:
    """Its folder."""
    return labelled_run


def everything(n_labels: int, v: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All contexts of three ids, for each label; and those labels."""
    rows = np.array(list(itertools.product(range(n_labels), *[range(v)] * 3)))
    return rows[:, 1:], rows[:, 0]


def test_the_file_is_the_checkpoint_read_by_hand(run: Path) -> None:
    """Embedding, Linear, BatchNorm, tanh and Linear in NumPy, from the tensors of the file alone."""
    stored = torch.load(run / "best.ckpt", weights_only=True)["state_dict"]
    w = {name.removeprefix("net.layers."): value.double().numpy() for name, value in stored.items()}
    v = len(w["output.bias"])
    contexts, labels = everything(3, v)
    embedding = w["embedding.weight"]
    x = np.concatenate([embedding[v + labels][:, None], embedding[contexts]], axis=1).reshape(len(labels), -1)
    h = x @ w["linear_1.weight"].T
    h = (h - w["norm_1.running_mean"]) / np.sqrt(w["norm_1.running_var"] + 1e-5)
    h = np.tanh(h * w["norm_1.weight"] + w["norm_1.bias"])
    expected = h @ w["output.weight"].T + w["output.bias"]
    session = open_graph(onnx.load(run / "model.onnx"))
    [logits] = session.run(["logits"], {"context": contexts, "label": labels})
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    report = json.loads((run / "verification.json").read_text(encoding="utf-8"))
    assert report["contexts"] == report["contexts_total"] == 3 * v**3
    assert report["checks"][0]["context_text"].split(": ")[0] in LABELS


@pytest.mark.parametrize("form", FORMS)
def test_many_names_are_drawn_from_tables_in_every_form(run: Path, tmp_path: Path, form: str) -> None:
    """As the graph draws them; where the file stores no logits, `model.onnx` beside it gives them."""
    export_checkpoint(run / "best.ckpt", tmp_path, form)  # type: ignore[arg-type]  # one of FORMS
    engine = open_engine(tmp_path / "sampler.onnx")
    assert isinstance(engine, GraphSampler)
    assert engine.tables is not None
    rng, v = np.random.default_rng(3), len(engine.info.vocabulary)
    uniforms, label_ids = rng.random((3_000, 12), dtype=np.float32), v + rng.integers(3, size=3_000)
    for decoding in (Decoding(), Decoding(temperature=0.7, top_k=3, min_length=4)):
        request = uniforms, np.array([1, 2]), decoding, label_ids
        *names, log_prob = engine.generate_by_tables(*request)
        *due, due_log_prob = engine.generate_all(*request)
        np.testing.assert_array_equal(names, due)
        np.testing.assert_allclose(log_prob, due_log_prob, atol=1e-4)
    shutil.copy(run / "sampler.onnx", tmp_path / "model.onnx")  # gives no logits
    alone = open_engine(tmp_path / "sampler.onnx")
    assert isinstance(alone, GraphSampler)
    assert (alone.tables is None) == (form != "table")
    np.testing.assert_array_equal(alone.generate(*request)[0], names[1])


@pytest.mark.parametrize("form", FORMS)
def test_a_bit_of_a_labels_weights_is_found(run: Path, tmp_path: Path, form: str) -> None:
    export_checkpoint(run / "best.ckpt", tmp_path, form)  # type: ignore[arg-type]  # one of FORMS
    for name in ("model.onnx", "sampler.onnx"):
        file = tmp_path / name
        verify_file(file, run / "best.ckpt")
        model = onnx.load(file)
        tensor = next(t for t in model.graph.initializer if t.name.startswith("weight"))
        numbers = numpy_helper.to_array(tensor).copy()
        # The first table is the labels' in form fused; else the last rows are theirs.
        numbers.reshape(-1).view(np.int32)[0 if form == "fused" else -1] ^= 1 << 6
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
        onnx.save(model, file)
        with pytest.raises(VerificationError, match="by its weights"):
            verify_file(file, run / "best.ckpt")


@pytest.mark.parametrize("name", ["model.onnx", "sampler.onnx"])
def test_swapped_or_missing_labels_are_found(run: Path, tmp_path: Path, name: str) -> None:
    for change in ("swapped", "shares", "gone"):
        model = onnx.load(run / name)
        metadata = {prop.key: prop.value for prop in model.metadata_props}
        if change == "swapped":
            labels = json.loads(metadata["makemore.labels"])
            metadata["makemore.labels"] = json.dumps([labels[1], labels[0], labels[2]])
        elif change == "shares":
            shares = json.loads(metadata["makemore.label_shares"])
            metadata["makemore.label_shares"] = json.dumps([shares[1], shares[0], shares[2]])
        else:
            del metadata["makemore.labels"], metadata["makemore.label_shares"]
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, tmp_path / name)
        with pytest.raises(VerificationError, match="of another model"):
            verify_file(tmp_path / name, run / "best.ckpt")
        if change == "gone":
            with pytest.raises(ModelFileError, match="expected inputs"):
                Sampler(tmp_path / name)


def test_a_file_without_the_input_is_refused(run: Path, tmp_path: Path, run_folder: Path) -> None:
    model = onnx.load(run_folder / "model.onnx")
    model.metadata_props.add(key="makemore.labels", value='["a"]')
    model.metadata_props.add(key="makemore.label_shares", value="[1.0]")
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="expected inputs"):
        Scorer(tmp_path / "model.onnx")


def test_names_by_label_and_by_shares(run: Path, tmp_path: Path) -> None:
    """Of both files; without a label, each name has its own, drawn first."""
    shutil.copy(run / "model.onnx", tmp_path)
    fast, stepwise = Sampler(run), Sampler(tmp_path / "model.onnx")
    assert fast.sample(200, seed=1, label="böy") == stepwise.sample(200, seed=1, label="böy")
    assert fast.sample(200, seed=1, label="böy") != fast.sample(200, seed=1, label="girl")
    [batch] = fast.stream(3_000, seed=2)
    [other] = stepwise.stream(3_000, seed=2)
    assert (batch.names, batch.labels) == (other.names, other.labels)
    for label, share in zip(fast.info.labels, fast.info.label_shares, strict=True):
        assert batch.labels.count(label) / 3_000 == pytest.approx(share, abs=0.04)
    scores = {label: Scorer(run, label=label).score(batch.names[:50]) for label in LABELS}
    longest = max(map(len, batch.names))  # perhaps cut, and without its end
    for i, label in enumerate(batch.labels[:50]):
        if len(batch.names[i]) == longest:
            continue
        assert batch.log_probs[i] == pytest.approx(scores[label][i].log_prob, abs=1e-3)
    [kept] = fast.stream(20, seed=2, unique=True)
    assert len(kept.labels) == len(kept.names) == len(set(kept.names)) == 20


def test_wishes_are_exact_with_a_label_and_without(run: Path, makemore: RunCommand, tmp_path: Path) -> None:
    sampler = Sampler(run)
    chances = [sampler.probability(label=label, suffix="a") for label in sampler.info.labels]
    assert len(set(chances)) == 3
    [batch] = sampler.stream(10, seed=1, label="girl", suffix="a")
    assert all(name.endswith("a") for name in batch.names)
    assert list(batch.labels) == ["girl"] * 10
    assert sampler.for_ids(["1", "2"], label="girl") == sampler.for_ids(["1", "2"], label="girl")
    shares = np.array(sampler.info.label_shares)
    assert sampler.probability(suffix="a") == pytest.approx(shares @ chances, rel=1e-12)
    [(names, _, labels)] = sampler.stream(2_000, seed=1, suffix="a")
    assert all(name.endswith("a") for name in names)
    # By Bayes: the more of a label's names end so, the more often it is drawn.
    due = np.array(chances) * shares
    found = [list(labels).count(label) / len(labels) for label in sampler.info.labels]
    np.testing.assert_allclose(found, due / due.sum(), atol=0.05)
    # What has no automaton is rejected, to the same distribution.
    with pytest.warns(RejectionWarning, match="back-reference"):
        [batch] = sampler.stream(10, seed=1, match=r"(.)\1", suffix="a")
    assert set(batch.labels) <= set(LABELS)
    # One name for each id: of the same label as another process draws.
    ids = [f"user-{i}" for i in range(300)]
    (tmp_path / "ids").write_text("\n".join(ids))
    told = makemore("sample", run, "--ids", tmp_path / "ids", "--suffix", "a")
    assert told.out == "".join(
        f"{i}\t{n}\n" for i, n in zip(ids, sampler.for_ids(ids, suffix="a"), strict=True)
    )
    assert f"probability {shares @ chances:.3g}" in told.err
    assert f"probability {sampler.collision_probability(suffix='a'):.3g}; of 300" in told.err
    assert "ids:         two get the same name with probability" in makemore("info", run).out


def test_pairs_of_too_many_labels(
    makemore: RunCommand, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids have names all the same, and a line says what is not known."""
    (tmp_path / "ids").write_text("1\n2\n")
    n_steps = Sampler(run)._conditionals.of(Wish(label="girl")).n_steps
    monkeypatch.setattr("makemore_pl.wishes.mixture.MOST_STEPS", 5 * n_steps)  # 3 labels, 6 pairs
    told = makemore("sample", run, "--ids", tmp_path / "ids")
    assert (told.code, len(told.out.splitlines())) == (0, 2)
    [line] = told.err.splitlines()
    assert line.startswith("ids: how often two get the same name is not computed: 6 pairs of labels")


def test_the_likeliest_label_by_bayes(run: Path) -> None:
    scorer = Scorer(run)
    names = ["anna", "mia", "e\u0301lia", "zoe", ""]
    by_label = [Scorer(run, label=label).score(names) for label in scorer.info.labels]
    for i, score in enumerate(scorer.score(names)):
        if score.name == "zoe":
            assert (score.log_prob, score.unknown, score.label) == (None, "oz", None)
            continue
        joint = np.array([s[i].log_prob for s in by_label]) + np.log(scorer.info.label_shares)
        assert score.log_prob == pytest.approx(np.log(np.exp(joint).sum()))
        assert score.label == scorer.info.labels[joint.argmax()]
        assert score.label_probability == pytest.approx(np.exp(joint.max()) / np.exp(joint).sum())
    assert scorer.score(["e\u0301lia"]) == scorer.score(["\u00e9lia"])  # in either form of Unicode
    assert Sampler(run).sample(3, seed=1, label="girl", prefix="e\u0301") == Sampler(run).sample(
        3, seed=1, label="girl", prefix="\u00e9"
    )


def test_labels_that_the_model_does_not_have(makemore: RunCommand, run: Path, run_folder: Path) -> None:
    for command in ("sample", "score"):
        makemore(command, run, "--label", "boy").fails_with(
            "label: 'boy' is none of böy, girl, x, y; did you mean 'böy'?"
        )
        makemore(command, run_folder, "--label", "F").fails_with("no labels")
    with pytest.raises(RequestError, match="no labels"):
        Sampler(run_folder).sample(1, label="F")


def test_what_the_commands_say(makemore: RunCommand, run: Path, tmp_path: Path) -> None:
    info = makemore("info", run)
    assert "labels:      böy (" in info.out
    assert "normalize nfc" in info.out
    rows = makemore("sample", run, "-n", 3, "--format", "json", "--label", "bo\u0308y").out
    assert [row["label"] for row in json.loads(rows)] == ["b\u00f6y"] * 3  # in either Unicode form
    assert Scorer(run, label="bo\u0308y").score(["ali"]) == Scorer(run, label="b\u00f6y").score(["ali"])
    rows = makemore("sample", run, "-n", 3, "--format", "json", "--label", "x, y").out
    assert [row["label"] for row in json.loads(rows)] == ["x, y"] * 3
    (tmp_path / "names.txt").write_text("anna\n", encoding="utf-8")
    assert "label,label_probability" in makemore("score", run, tmp_path / "names.txt", "--format", "csv").out
    tested = makemore("test", run)
    assert "test/nll/girl" in tested.out
    assert makemore("predict", run).out.startswith("label,context,next")
    makemore("report", run / "best.ckpt", "-o", tmp_path / "report.html").succeeds()
    assert "<bdi>x, y</bdi>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_checkpoint_whose_labels_do_not_fit(makemore: RunCommand, run: Path, tmp_path: Path) -> None:
    for change in ({"labels": ["a"]}, {"label_shares": [1.0]}, {"labels": 3}, {"labels": ["a", "a", "b"]}):
        content = torch.load(run / "best.ckpt", weights_only=True)
        content["NamesDataModule"] |= change
        torch.save(content, tmp_path / "x.ckpt")
        makemore("export", tmp_path / "x.ckpt").fails_with("damaged (label")
    assert read_checkpoint(run / "best.ckpt").labels == sorted(LABELS)
