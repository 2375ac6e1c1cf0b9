"""From a checkpoint to proven files: fold → write → prove → move into place."""

import hashlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from makemore_pl import __version__
from makemore_pl.errors import RequestError
from makemore_pl.export.onnx_file import save_checked
from makemore_pl.export.work_folder import work_folder
from makemore_pl.exported.metadata import INFO_FILE, MODEL_FILE, REPORT_FILE, SAMPLER_FILE, Form, ModelInfo
from makemore_pl.exported.session import MAX_FILE_BYTES
from makemore_pl.files import move_into_place
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.memory import in_words, require_memory
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.contexts import contexts_to_compare
from makemore_pl.proof.proof import prove
from makemore_pl.proof.proof_report import Report
from makemore_pl.runs.checkpoint import Checkpoint, read_checkpoint

FormChoice = Literal["auto", "mlp", "fused", "table"]
"""A form for both files; `auto`: as trained in `model.onnx`, the fastest form in `sampler.onnx`."""
AUTO_TABLE_LIMIT = 1 << 22
"""Most float32 entries in the tables of a form that `auto` chooses: 16 MiB."""


@dataclass(frozen=True)
class Export:
    """An export that has passed: the folder of its files, and their proof."""

    folder: Path
    report: Report


def export_checkpoint(
    checkpoint: Checkpoint | Path | str,
    output: Path | str | None = None,
    form: FormChoice = "auto",
    vocabulary: str | None = None,
) -> Export:
    """Fold, write and prove `model.onnx`, `sampler.onnx`, `model.json` and `verification.json`.

    The files are written into a temporary folder and moved into place after the proof; until then, old ones
    stay as they are.

    Args:
        checkpoint: of `makemore fit`: its path, or as already read.
        output: folder of the files; by default the checkpoint's.
        form: how the network is stored.
        vocabulary: the characters, for a module that was trained on a loader of the user's own; see
            `read_checkpoint`.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        FoldError: its BatchNorm cannot be folded.
        FormError: the network is too wide for the form.
        VerificationError: a file is not the trained model; nothing is left behind.
        RequestError: the output folder cannot be written to, or the vocabulary is not the model's.
    """
    source = checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint, vocabulary)
    folder = Path(output) if output is not None else source.path.parent
    with work_folder(folder) as work:
        report = _write(work, source, form)
        move_into_place(work, folder, (MODEL_FILE, SAMPLER_FILE, INFO_FILE, REPORT_FILE))
    return Export(folder, report)


def verify_file(file: Path | str, checkpoint: Path | str, vocabulary: str | None = None) -> Report:
    """Prove an existing `model.onnx` or `sampler.onnx` again.

    Args:
        file: the exported file.
        checkpoint: that it should equal.
        vocabulary: as in `export_checkpoint`.

    Raises:
        CheckpointError, ModelFileError: one of the two cannot be read.
        FoldError: the checkpoint's BatchNorm cannot be folded.
        VerificationError: the file is not the checkpoint's model.
    """
    source = read_checkpoint(checkpoint, vocabulary)
    model = source.load_model()
    _require_proof_memory(model)
    info = model_info(source, model)
    return prove(
        model, fold(model.layers), info, contexts_to_compare(source, model), [Path(file)], recorded=True
    )


def _write(work: Path, source: Checkpoint, form: FormChoice) -> Report:
    """Write and prove the files in `work`."""
    model = source.load_model()
    expect_exportable(model)
    _require_proof_memory(model)
    folded = fold(model.layers)
    weights = FoldedWeights.from_layers(folded)
    info = model_info(source, model)
    model_form: Form = "mlp" if form == "auto" else form
    sampler_form: Form = fastest_form(weights) if form == "auto" else form
    sampler = build_sampler(weights, sampler_form, info.vocabulary.token_codepoints)
    files = {
        work / MODEL_FILE: (build_model(weights, model_form), replace(info, form=model_form)),
        work / SAMPLER_FILE: (sampler, replace(info, form=sampler_form)),
    }
    for file, (graph, own_info) in files.items():
        save_checked(graph, own_info, file)
    report = prove(model, folded, info, contexts_to_compare(source, model), list(files))
    for file, (graph, own_info) in files.items():  # the same graph, now with its proof in the metadata
        save_checked(graph, replace(own_info, verification=report.summary()), file)
    proven = replace(info, form=sampler_form, verification=report.summary())
    (work / INFO_FILE).write_text(proven.to_json(), encoding="utf-8")
    (work / REPORT_FILE).write_text(report.to_json(), encoding="utf-8")
    return report


def fastest_form(weights: FoldedWeights) -> Form:
    """The form of `sampler.onnx` that `auto` takes; measured by scripts/bench_inference.py."""
    if weights.n_contexts * weights.vocab_size <= AUTO_TABLE_LIMIT:
        return "table"
    _, bias = weights.linears[0]
    return "fused" if weights.block_size * weights.vocab_size * len(bias) <= AUTO_TABLE_LIMIT else "mlp"


def expect_exportable(model: BatchNormMLP) -> None:
    """Refuse a network whose file no runtime would open, before it is trained for hours.

    Raises:
        RequestError: with the arithmetic.
    """
    if 4 * model.n_parameters > MAX_FILE_BYTES:
        raise RequestError(
            f"export: {model.n_parameters:,} parameters × 4 bytes = {in_words(4 * model.n_parameters)} "
            f"make a file of more than {in_words(MAX_FILE_BYTES)}, which is not opened; "
            "--export.enabled false trains without a file"
        )


def _require_proof_memory(model: BatchNormMLP) -> None:
    """Estimate the memory of a proof: weights in both precisions and in files, the certificate's tables."""
    n, (t, v, h) = model.n_parameters, (model.block_size, model.vocab_size, model.width)
    n_rows = t * v + model.n_labels
    require_memory(
        60 * n + 40 * n_rows * h,
        f"proof: {n:,} parameters × 60 bytes + {n_rows:,}×{h:,} entries of tables × 40 bytes",
    )


def model_info(checkpoint: Checkpoint, model: BatchNormMLP) -> ModelInfo:
    """Metadata of the files of a model, without their proof, as if of form `mlp`."""
    libraries = ("torch", "onnx", "onnxruntime")
    data = checkpoint.data
    return ModelInfo(
        characters=data["characters"],
        block_size=model.block_size,
        n_embd=model.n_embd,
        n_hidden=model.width,
        n_layers=model.n_layers,
        n_parameters=model.n_parameters,
        form="mlp",
        longest_name=data["longest_name"],
        list_name=data["list_name"],
        list_sha256=data["list_sha256"],
        export_id=weights_id(model),
        labels=checkpoint.labels,
        label_shares=data["label_shares"],
        normalize=data["normalize"],
        case=data["case"],
        versions={"makemore_pl": __version__, **{name: version(name) for name in libraries}},
    )


def weights_id(model: BatchNormMLP) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all weights and running statistics."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()[:16]
