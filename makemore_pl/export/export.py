"""`makemore export`: from a checkpoint to proven files. Nothing appears before everything has passed."""

import hashlib
import shutil
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from makemore_pl import __version__
from makemore_pl.errors import RequestError, VerificationError
from makemore_pl.export.fold import fold
from makemore_pl.export.graph import save_checked, set_metadata, to_onnx
from makemore_pl.export.proof import Report, prove
from makemore_pl.model_info import MODEL_FILE, REPORT_FILE, ModelInfo
from makemore_pl.training.checkpoint import Checkpoint, read_checkpoint
from makemore_pl.training.model import BatchNormMLP

Form = Literal["mlp"]
"""How the network is stored in the file."""


@dataclass(frozen=True)
class Export:
    """An export that has passed.

    Attributes:
        folder: where its files lie.
        info: its metadata.
        report: its proof.
    """

    folder: Path
    info: ModelInfo
    report: Report


def export_checkpoint(checkpoint: Path | str, output: Path | str | None = None, form: Form = "mlp") -> Export:
    """Fold, verify and write `model.onnx` and `verification.json`.

    The files are written into a temporary folder and moved in place after the proof; old ones stay as
    they are until then.

    Args:
        checkpoint: a checkpoint of `makemore fit`.
        output: folder of the files; by default the checkpoint's.
        form: how the network is stored.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        FoldError: its BatchNorm cannot be folded.
        VerificationError: the file is not the trained model; nothing is left behind.
        RequestError: the output folder cannot be written to.
    """
    source = read_checkpoint(checkpoint)
    model = source.load_model()
    info = model_info(source, model, form)
    folder = Path(output) if output is not None else source.path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written to ({error.strerror})") from error
    try:
        report, info = _write(work, model, source, info)
        for file in (MODEL_FILE, REPORT_FILE):
            (work / file).replace(folder / file)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    return Export(folder, info, report)


def _write(work: Path, model: BatchNormMLP, source: Checkpoint, info: ModelInfo) -> tuple[Report, ModelInfo]:
    """Write and prove the files in `work`."""
    graph = to_onnx(fold(model).float())
    set_metadata(graph, info.to_metadata())
    save_checked(graph, work / MODEL_FILE)
    report = prove(model, source, work / MODEL_FILE)
    # The proof's summary joins the metadata; the graph that was proven stays byte for byte the same.
    proven = graph.graph.SerializeToString(deterministic=True)
    info = replace(info, verification=report.summary())
    set_metadata(graph, info.to_metadata())
    save_checked(graph, work / MODEL_FILE)
    if graph.graph.SerializeToString(deterministic=True) != proven:
        raise VerificationError(f"{MODEL_FILE}: the graph changed after it was verified")
    (work / REPORT_FILE).write_text(report.to_json(), encoding="utf-8")
    return report, info


def verify_file(file: Path | str, checkpoint: Path | str) -> Report:
    """The proof again, for a file that exists.

    Raises:
        CheckpointError, ModelFileError: one of the two cannot be read.
        FoldError: the checkpoint's BatchNorm cannot be folded.
        VerificationError: the file is not the checkpoint's model.
    """
    source = read_checkpoint(checkpoint)
    return prove(source.load_model(), source, Path(file))


def model_info(checkpoint: Checkpoint, model: BatchNormMLP, form: Form) -> ModelInfo:
    """Metadata of the file to be written, still without the proof's summary."""
    return ModelInfo(
        characters=checkpoint.data["characters"],
        block_size=model.block_size,
        n_embd=model.n_embd,
        n_hidden=model.n_hidden,
        n_layers=model.n_layers,
        n_parameters=model.n_parameters,
        form=form,
        longest_name=checkpoint.data["longest_name"],
        list_name=checkpoint.data["list_name"],
        list_sha256=checkpoint.data["list_sha256"],
        export_id=weights_id(model),
        versions={
            "makemore_pl": __version__,
            **{name: version(name) for name in ("torch", "onnx", "onnxruntime")},
        },
    )


def weights_id(model: BatchNormMLP) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all weights and running statistics."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()[:16]
