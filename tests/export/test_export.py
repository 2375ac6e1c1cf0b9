import json
import shutil
from pathlib import Path

import lightning as L
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from helpers import trained_like

from makemore_pl import Sampler
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import CheckpointError, ModelFileError, RequestError, VerificationError
from makemore_pl.export import export as export_module
from makemore_pl.export.export import FORMS, export_checkpoint, verify_file
from makemore_pl.graph.forms import Form, FormError
from makemore_pl.graph.onnx_file import to_onnx
from makemore_pl.model.fold import fold
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.proof import Report
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.runtime.metadata import ModelInfo

EXPORTED = {"model.onnx", "sampler.onnx", "verification.json"}


def op_types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_the_folded_graph_has_no_batch_norm_and_the_unfolded_has() -> None:
    model = trained_like(BatchNormMLP(27, 3))
    assert op_types(to_onnx(fold(model).float())) == ["Gather", "Reshape", "Gemm", "Tanh", "Gemm"]
    # Both optimisers would fold it by themselves: off, to show that there was something to fold.
    unfolded = to_onnx(model, optimize=False)
    assert "BatchNormalization" in op_types(unfolded)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    contexts = torch.randint(27, (100, 3))
    session = ort.InferenceSession(unfolded.SerializeToString(), options, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"context": contexts.numpy()})
    with torch.no_grad():
        assert np.abs(logits - model(contexts).numpy()).max() < 1e-4


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
    export = export_checkpoint(run_folder / "best.ckpt", tmp_path / "out")
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


@pytest.mark.parametrize("existing", [True, False])
def test_failed_export_leaves_nothing_behind(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    """One weight of the folded model off by 1e-3, as a bug in folding would have it."""

    def wrong_fold(model: BatchNormMLP) -> BatchNormMLP:
        folded = fold(model)
        with torch.no_grad():
            folded.layers.linear_1.weight[3, 3] += 1e-3
        return folded

    out = tmp_path / "out"
    if existing:
        out.mkdir()
        shutil.copy(run_folder / "model.onnx", out)
    monkeypatch.setattr(export_module, "fold", wrong_fold)
    with pytest.raises(VerificationError, match=r"model\.onnx is not the trained model"):
        export_checkpoint(run_folder / "best.ckpt", out)
    if existing:
        assert [file.name for file in out.iterdir()] == ["model.onnx"]
        assert (out / "model.onnx").read_bytes() == (run_folder / "model.onnx").read_bytes()
    else:
        assert not out.exists()


def test_a_wrong_fold_is_found_before_the_file(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from makemore_pl.proof import proof

    def wrong_fold(model: BatchNormMLP) -> BatchNormMLP:
        folded = fold(model)
        with torch.no_grad():
            folded.layers.linear_1.bias[0] += 1e-8  # far below float32's rounding
        return folded

    monkeypatch.setattr(proof, "fold", wrong_fold)
    with pytest.raises(VerificationError, match="folded in float64 is not the trained model"):
        verify_file(run_folder / "model.onnx", run_folder / "best.ckpt")


def test_sampler_of_another_model_fails_verification(run_folder: Path, tmp_path: Path) -> None:
    other = damage(run_folder / "best.ckpt", tmp_path / "other.ckpt", "output.bias", 1.0)
    assert verify_file(run_folder / "sampler.onnx", run_folder / "best.ckpt").names
    with pytest.raises(
        VerificationError, match=r"sampler\.onnx is not the trained model: with the same uniforms"
    ):
        verify_file(run_folder / "sampler.onnx", other)


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
    with pytest.raises(FormError, match=r"27\^6|26\^6|25\^6"):
        export_checkpoint(checkpoint, tmp_path / "out", "table")
    assert not (tmp_path / "out").exists()


def untrained_checkpoint(data: NamesDataModule, file: Path) -> Path:
    """A checkpoint of a model as it starts."""
    trainer = L.Trainer(max_epochs=0, logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.fit(LitBatchNormMLP(data.vocab_size, data.block_size), datamodule=data)
    trainer.save_checkpoint(file)
    return file


def test_file_of_another_model_is_refused(run_folder: Path, tmp_path: Path) -> None:
    model = onnx.load(run_folder / "model.onnx")
    for prop in model.metadata_props:
        if prop.key == "makemore.characters":
            prop.value = json.dumps("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(json.loads(prop.value))])
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(VerificationError, match="other characters or block size"):
        verify_file(tmp_path / "other.onnx", run_folder / "best.ckpt")


def test_output_that_cannot_be_written(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be written"):
        export_checkpoint(run_folder / "best.ckpt", tmp_path / "file")


def test_report_of_a_sample_of_contexts_says_so() -> None:
    report = Report(1_000, 10**6, [], certificate=None, names=None, characters="ab")
    assert not report.exhaustive


class Exploit:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code from a checkpoint has run')",))


def test_checkpoints_that_cannot_be_read(run_folder: Path, tmp_path: Path) -> None:
    good = (run_folder / "best.ckpt").read_bytes()
    cases = {
        "empty": (b"", "not a checkpoint|damaged"),
        "garbage": (b"\x80\x02garbage", "not a checkpoint|damaged"),
        "truncated": (good[: len(good) // 2], "damaged"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / name)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="it lacks global_step, state_dict"):
        read_checkpoint(tmp_path / "foreign")
    torch.save(Exploit(), tmp_path / "exploit")
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(tmp_path / "exploit")
    with pytest.raises(CheckpointError, match="No such file"):
        read_checkpoint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="a folder"):
        read_checkpoint(tmp_path)


def test_model_files_that_cannot_be_read(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "garbage.onnx").write_bytes(b"no model at all")
    foreign = onnx.load(run_folder / "model.onnx")
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for file, message in [
        ("garbage.onnx", "not a readable ONNX model"),
        ("foreign.onnx", "not exported by makemore"),
        ("missing.onnx", "No such file"),
    ]:
        with pytest.raises(ModelFileError, match=message):
            verify_file(tmp_path / file, run_folder / "best.ckpt")
