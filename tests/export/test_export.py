import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from helpers import RunCommand
from torch import nn

from makemore_pl import Sampler
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import CheckpointError, RequestError, VerificationError
from makemore_pl.export import export as export_module
from makemore_pl.export.export import export_checkpoint, verify_file
from makemore_pl.exported.metadata import FORMS, Form, ModelInfo
from makemore_pl.graph import forms
from makemore_pl.graph.builder import GraphBuilder
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights, FormError
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.proof import contexts as contexts_module
from makemore_pl.proof.proof_report import Report
from makemore_pl.runs.checkpoint import read_checkpoint

EXPORTED = {"model.onnx", "sampler.onnx", "verification.json", "model.json"}


def test_every_context_under_plain_onnxruntime(run_folder: Path) -> None:
    """Independent of the project's own verification: all contexts against the checkpoint."""
    checkpoint = torch.load(run_folder / "best.ckpt", weights_only=True)
    vocab_size = checkpoint["hyper_parameters"]["vocab_size"]
    weights = {
        key.removeprefix("net.layers."): value.double() for key, value in checkpoint["state_dict"].items()
    }
    grid = torch.cartesian_prod(*[torch.arange(vocab_size)] * 3)
    x = weights["embedding.weight"][grid].flatten(1) @ weights["linear_1.weight"].T
    x = (x - weights["norm_1.running_mean"]) / (weights["norm_1.running_var"] + 1e-5).sqrt()
    x = (x * weights["norm_1.weight"] + weights["norm_1.bias"]).tanh()
    expected = (x @ weights["output.weight"].T + weights["output.bias"]).numpy()
    session = ort.InferenceSession(run_folder / "model.onnx", providers=["CPUExecutionProvider"])
    [logits] = session.run(["logits"], {"context": grid.numpy()})
    assert logits.dtype == np.float32
    assert np.abs(logits - expected).max() < 1e-5


def test_file_is_one_fixed_opset_and_names_itself(run_folder: Path) -> None:
    model = onnx.load(run_folder / "model.onnx", load_external_data=False)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert str(Path.cwd()).encode() not in (run_folder / "model.onnx").read_bytes()
    info = ModelInfo.from_metadata({p.key: p.value for p in model.metadata_props}, run_folder)
    assert info.block_size == 3
    assert info.list_name == "short"
    assert info.verification["exhaustive"]
    assert info.verification["contexts"] == (len(info.characters) + 1) ** 3


def test_report_covers_every_step(run_folder: Path) -> None:
    report = json.loads((run_folder / "verification.json").read_text())
    names = [check["name"] for check in report["checks"]]
    assert names[:3] == ["folded in float64", "folded in float32", "model.onnx"]
    assert [name for name in names if "batches of" in name] == [
        f"model.onnx, batches of {n}" for n in (1, 2, 3, 64)
    ]
    assert all(check["passed"] for check in report["checks"])
    assert report["contexts"] == report["contexts_total"]
    assert report["sampler"]["names"] > 12_000
    assert report["largest_deviation"] <= report["certificate"]["total"]


def test_export_again_is_the_same_file(run_folder: Path, tmp_path: Path) -> None:
    export = export_checkpoint(read_checkpoint(run_folder / "best.ckpt"), tmp_path / "out")
    assert {file.name for file in export.folder.iterdir()} == EXPORTED
    for file in EXPORTED:
        assert (export.folder / file).read_bytes() == (run_folder / file).read_bytes()


def damage(checkpoint: Path, to: Path, key: str, amount: float) -> Path:
    """A copy of a checkpoint with one number changed."""
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"][f"net.layers.{key}"].view(-1)[0] += amount
    torch.save(content, to)
    return to


@pytest.mark.parametrize("key", ["embedding.weight", "linear_1.weight", "norm_1.running_mean", "output.bias"])
def test_one_changed_weight_fails_verification(run_folder: Path, tmp_path: Path, key: str) -> None:
    other = damage(run_folder / "best.ckpt", tmp_path / "other.ckpt", key, 1e-3)
    assert verify_file(run_folder / "model.onnx", run_folder / "best.ckpt").exhaustive
    with pytest.raises(VerificationError, match=r"model\.onnx is not the trained model"):
        verify_file(run_folder / "model.onnx", other)


def wrong_fold(layers: nn.Sequential) -> nn.Sequential:
    """One bias off by 1e-8, far below float32's rounding."""
    folded = fold(layers)
    with torch.no_grad():
        folded.linear_1.bias[0] += 1e-8
    return folded


def wrong_model(weights: FoldedWeights, form: Form) -> onnx.ModelProto:
    """Written from other weights than those that were folded."""
    return forms.build_model(replace(weights, embedding=weights.embedding + 1e-3), form)


def wrong_linear(g: GraphBuilder, x: str, linear: tuple[np.ndarray, np.ndarray]) -> str:
    """A writer that is wrong whenever it writes: only the logits can show it."""
    return g.Gemm(x, g.weight(linear[0]), g.weight(linear[1] + 1e-3), transB=1)


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize(
    ("place", "name", "wrong", "message"),
    [
        (export_module, "fold", wrong_fold, "folded in float64 is not the trained model: a logit differs"),
        (export_module, "build_model", wrong_model, r"model\.onnx is not the trained model: by its weights"),
        (forms, "_add_linear", wrong_linear, r"model\.onnx is not the trained model: a logit differs by 0.0"),
    ],
)
def test_a_failed_export_leaves_nothing_behind(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    existing: bool,
    place: object,
    name: str,
    wrong: Callable[..., object],
    message: str,
) -> None:
    out = tmp_path / "new" / "out"
    if existing:
        out.mkdir(parents=True)
        shutil.copy(run_folder / "model.onnx", out)
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises(VerificationError, match=message):
        export_checkpoint(run_folder / "best.ckpt", out)
    if existing:
        assert [file.name for file in out.iterdir()] == ["model.onnx"]
        assert (out / "model.onnx").read_bytes() == (run_folder / "model.onnx").read_bytes()
    else:
        assert list(tmp_path.iterdir()) == []


def test_sampler_of_another_model_fails_verification(run_folder: Path, tmp_path: Path) -> None:
    other = damage(run_folder / "best.ckpt", tmp_path / "other.ckpt", "output.bias", 1.0)
    assert verify_file(run_folder / "sampler.onnx", run_folder / "best.ckpt").names
    with pytest.raises(VerificationError, match=r"sampler\.onnx is not the trained model"):
        verify_file(run_folder / "sampler.onnx", other)


@pytest.mark.slow
def test_a_module_trained_on_a_loader_of_the_users_own(
    makemore: RunCommand, run_folder: Path, tmp_path: Path
) -> None:
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    characters = content.pop("NamesDataModule")["characters"]
    del content["datamodule_hyper_parameters"], content["datamodule_hparams_name"]
    plain = tmp_path / "plain.ckpt"
    torch.save(content, plain)
    shuffled = characters[::-1]
    assert export_checkpoint(plain, tmp_path / "out", vocabulary=shuffled).report.exhaustive
    sampler, own = Sampler(tmp_path / "out"), Sampler(run_folder)
    assert sampler.sample(50, seed=1, max_length=9) == own.sample(50, seed=1, max_length=9)
    assert verify_file(tmp_path / "out" / "sampler.onnx", plain, characters).names
    assert "a list that is not recorded" in makemore("info", tmp_path / "out").out
    commands = (["export", plain, "-o", tmp_path / "b"], ["verify", tmp_path / "out" / "model.onnx", plain])
    for command in commands:
        makemore(*command).fails_with("is exported with --vocabulary")
        makemore(*command, "--vocabulary", characters).succeeds()
    with pytest.raises(RequestError, match="2 different characters and the boundary; the model of"):
        export_checkpoint(plain, vocabulary="aba")
    with pytest.raises(RequestError, match="has one of its own"):
        export_checkpoint(run_folder / "best.ckpt", tmp_path / "c", vocabulary=characters[1:])


@pytest.mark.slow
def test_a_network_that_was_compiled_inside_the_module(run_folder: Path, tmp_path: Path) -> None:
    module = LitBatchNormMLP.load_from_checkpoint(run_folder / "best.ckpt")
    module.net = torch.compile(module.net, backend="eager")  # type: ignore[assignment]
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    names = set(content["state_dict"])
    content["state_dict"] = module.state_dict()
    assert not names & set(content["state_dict"])
    torch.save(content, tmp_path / "compiled.ckpt")
    export = export_checkpoint(tmp_path / "compiled.ckpt", tmp_path / "out")
    assert (export.folder / "model.onnx").read_bytes() == (run_folder / "model.onnx").read_bytes()
    assert verify_file(run_folder / "sampler.onnx", tmp_path / "compiled.ckpt").names
    again = LitBatchNormMLP.load_from_checkpoint(tmp_path / "compiled.ckpt")
    module.load_state_dict(again.state_dict())  # plain names into the compiled one
    assert set(again.state_dict()) == names
    with pytest.raises(RuntimeError, match="Unexpected key"):
        module.load_state_dict({**again.state_dict(), "net.other": torch.zeros(1)})


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_model(run_folder: Path, tmp_path: Path, form: Form) -> None:
    export = export_checkpoint(run_folder / "best.ckpt", tmp_path, form)
    assert export.report.exhaustive
    for file in ("model.onnx", "sampler.onnx"):
        model = onnx.load(tmp_path / file)
        info = ModelInfo.from_metadata({p.key: p.value for p in model.metadata_props}, tmp_path)
        assert info.form == form
        assert info.verification["names"] > 12_000
    assert Sampler(tmp_path).sample(200, seed=7) == Sampler(run_folder).sample(200, seed=7)


def test_a_table_too_wide_is_refused(tmp_path: Path, short_list: Path) -> None:
    data = NamesDataModule(str(short_list), block_size=6)
    checkpoint = untrained_checkpoint(data, tmp_path / "wide.ckpt")
    with pytest.raises(FormError, match=r"14\^6"):
        export_checkpoint(checkpoint, tmp_path / "out", "table")
    assert not (tmp_path / "out").exists()


def untrained_checkpoint(data: NamesDataModule, file: Path) -> Path:
    """A checkpoint of a model as it starts."""
    trainer = L.Trainer(max_epochs=0, logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.fit(LitBatchNormMLP(data.vocab_size, data.block_size), datamodule=data)
    trainer.save_checkpoint(file)
    return file


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("list_sha256", '"0"', "of another model .list_sha256"),
        ("form", '"table"', "of another model .form is 'table', expected 'mlp'"),
        ("verification", '{"contexts": 1, "contexts_total": 1, "largest_deviation": 0.0}', "another proof"),
        ("verification", "{}", "another proof"),
    ],
)
def test_metadata_of_another_model_is_refused(
    run_folder: Path, tmp_path: Path, key: str, text: str, message: str
) -> None:
    """The form that a file claims decides nothing; see test_stored_metadata.py for all keys."""
    model = onnx.load(run_folder / "model.onnx")
    [prop] = [prop for prop in model.metadata_props if prop.key == f"makemore.{key}"]
    prop.value = text
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(VerificationError, match=message):
        verify_file(tmp_path / "other.onnx", run_folder / "best.ckpt")


@pytest.mark.parametrize("file", ["model.onnx", "sampler.onnx"])
def test_an_altered_file_is_refused_before_onnx_runtime_opens_it(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Some altered graphs crash the process that opens them."""
    model = onnx.load(run_folder / file)
    model.graph.node[0].op_type = "Exploit"
    onnx.save(model, tmp_path / file)
    monkeypatch.setattr("makemore_pl.proof.proof.open_engine", None)
    with pytest.raises(VerificationError, match="its graph is another one"):
        verify_file(tmp_path / file, run_folder / "best.ckpt")


def test_output_that_cannot_be_written(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be written"):
        export_checkpoint(run_folder / "best.ckpt", tmp_path / "file")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds neither best.ckpt nor last.ckpt"):
        export_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="No such file"):
        export_checkpoint(tmp_path / "missing.ckpt")


def test_a_list_that_is_gone_is_said(
    tmp_path: Path, short_list: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more contexts than can all be compared, those of the list are left out, and not in silence."""
    monkeypatch.setattr(contexts_module, "RANDOM_CONTEXTS", 2_000)
    names = tmp_path / "names.txt"
    shutil.copy(short_list, names)
    checkpoint = untrained_checkpoint(NamesDataModule(str(names), block_size=6), tmp_path / "x.ckpt")
    exported = export_checkpoint(checkpoint, tmp_path, "mlp").report
    assert exported.contexts > 2_000
    assert not exported.list_missing
    for change in (lambda: names.write_text("other\nnames\nthan\nbefore\n"), names.unlink):
        change()
        report = verify_file(tmp_path / "model.onnx", checkpoint)
        assert report.contexts == 2_000
        assert "2,000 of" in report.describe()
        assert "the list is gone or has changed" in report.describe()
        assert json.loads(report.to_json())["list_missing"]


def test_report_of_a_sample_of_contexts_says_so() -> None:
    report = Report(1_000, 10**6, [], certificate=None, names=None, characters="ab")
    assert not report.exhaustive
