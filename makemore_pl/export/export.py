"""`makemore export`: from a checkpoint to proven files. Nothing appears before everything has passed."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx

from makemore_pl import __version__
from makemore_pl.errors import RequestError, VerificationError
from makemore_pl.graph.forms import FoldedWeights, build_model
from makemore_pl.graph.onnx_file import save_checked, set_metadata, to_onnx
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.memory import in_words
from makemore_pl.model.fold import fold
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.proof import Report, prove, require_proof_memory
from makemore_pl.runs.checkpoint import Checkpoint, read_checkpoint
from makemore_pl.runs.locks import HeldError, hold
from makemore_pl.runtime.metadata import MODEL_FILE, REPORT_FILE, SAMPLER_FILE, Form, ModelInfo
from makemore_pl.runtime.session import MAX_FILE_BYTES
from makemore_pl.vocabulary import Vocabulary

FORMS: tuple[Form, ...] = get_args(Form)
FormChoice = Literal["auto", "mlp", "fused", "table"]
"""A form for both files; `auto`: as trained in `model.onnx`, the fastest form in `sampler.onnx`."""
WORK_PREFIX = ".export-"
LOCK = ".lock"
"""In a temporary folder, held as long as the export that has made it is at work."""
AUTO_TABLE_LIMIT = 1 << 22
"""Most float32 entries in the tables of a form that `auto` chooses: 16 MiB."""


@dataclass(frozen=True)
class Export:
    """An export that has passed.

    Attributes:
        folder: where its files lie.
        report: their proof.
    """

    folder: Path
    report: Report


def export_checkpoint(
    checkpoint: Checkpoint | Path | str, output: Path | str | None = None, form: FormChoice = "auto"
) -> Export:
    """Fold, verify and write `model.onnx`, `sampler.onnx` and `verification.json`.

    The files are written into a temporary folder and moved in place after the proof; old ones stay as
    they are until then.

    Args:
        checkpoint: a checkpoint of `makemore fit`.
        output: folder of the files; by default the checkpoint's.
        form: how the network is stored.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        FoldError: its BatchNorm cannot be folded.
        FormError: the network is too wide for the form.
        VerificationError: a file is not the trained model; nothing is left behind.
        RequestError: the output folder cannot be written to.
    """
    source = checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)
    folder = Path(output) if output is not None else source.path.parent
    with _work_folder(folder) as work:
        report = _write(work, source, form)
        # Of two exports into one folder, the files of the later one end up there, not some of each.
        with _hold_exports(folder):
            for file in (MODEL_FILE, SAMPLER_FILE, REPORT_FILE):
                (work / file).replace(folder / file)
    return Export(folder, report)


def verify_file(file: Path | str, checkpoint: Path | str) -> Report:
    """The proof again, for a `model.onnx` or a `sampler.onnx` that exists.

    Raises:
        CheckpointError, ModelFileError: one of the two cannot be read.
        FoldError: the checkpoint's BatchNorm cannot be folded.
        VerificationError: the file is not the checkpoint's model.
    """
    return prove(read_checkpoint(checkpoint), Path(file))


def fastest_form(weights: FoldedWeights) -> Form:
    """The form of `sampler.onnx` that `auto` takes; measured by scripts/bench_inference.py."""
    if weights.n_contexts * weights.vocab_size <= AUTO_TABLE_LIMIT:
        return "table"
    n_hidden = len(weights.hidden[0][1])
    return "fused" if weights.block_size * weights.vocab_size * n_hidden <= AUTO_TABLE_LIMIT else "mlp"


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


def _write(work: Path, source: Checkpoint, form: FormChoice) -> Report:
    """Write and prove the files in `work`."""
    model = source.load_model()
    expect_exportable(model)
    require_proof_memory(model)
    folded = fold(model)
    weights = FoldedWeights.from_model(folded)
    model_form: Form = "mlp" if form == "auto" else form
    sampler_form: Form = fastest_form(weights) if form == "auto" else form
    codepoints = Vocabulary(source.data["characters"]).token_codepoints
    graphs = {
        MODEL_FILE: to_onnx(folded.float()) if model_form == "mlp" else build_model(weights, model_form),
        SAMPLER_FILE: build_sampler(weights, sampler_form, codepoints),
    }
    infos = {
        MODEL_FILE: model_info(source, model, model_form),
        SAMPLER_FILE: model_info(source, model, sampler_form),
    }
    for file, graph in graphs.items():
        set_metadata(graph, infos[file].to_metadata())
        save_checked(graph, work / file)
    report = prove(source, *(work / file for file in graphs))
    for file, graph in graphs.items():
        _add_proof(graph, infos[file], report, work / file)
    (work / REPORT_FILE).write_text(report.to_json(), encoding="utf-8")
    return report


def _add_proof(graph: onnx.ModelProto, info: ModelInfo, report: Report, file: Path) -> None:
    """Put the proof's summary into the metadata of the file. What was proven stays byte for byte the same."""
    proven = onnx.load_from_string(file.read_bytes()).graph.SerializeToString(deterministic=True)
    set_metadata(graph, replace(info, verification=report.summary()).to_metadata())
    save_checked(graph, file)
    written = onnx.load_from_string(file.read_bytes()).graph.SerializeToString(deterministic=True)
    if written != proven:
        raise VerificationError(f"{file.name}: the graph changed after it was verified")


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, on the same disk, so that its files can be renamed in place."""
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            with _hold_exports(folder):
                for old in folder.glob(f"{WORK_PREFIX}*"):
                    _remove_if_left_behind(old)
                work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=folder))
                held.callback(shutil.rmtree, work, ignore_errors=True)
                held.enter_context(hold(work / LOCK, wait=0, what=work))
            yield work
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written to ({error.strerror})") from error
    finally:
        if not existed:
            with suppress(OSError):  # not empty: another export's
                folder.rmdir()


def _hold_exports(folder: Path) -> AbstractContextManager[None]:
    """What exports into one folder take in turns."""
    return hold(folder / ".export.lock", wait=-1, what=folder)


def _remove_if_left_behind(work: Path) -> None:
    """Remove the temporary folder of an export that was killed: its lock is free."""
    with suppress(HeldError):
        with hold(work / LOCK, wait=0, what=work):
            pass
        shutil.rmtree(work, ignore_errors=True)


def model_info(checkpoint: Checkpoint, model: BatchNormMLP, form: Form) -> ModelInfo:
    """Metadata of a file to be written, still without the proof's summary."""
    libraries = ("torch", "onnx", "onnxruntime")
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
        versions={"makemore_pl": __version__, **{name: version(name) for name in libraries}},
    )


def weights_id(model: BatchNormMLP) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all weights and running statistics."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()[:16]
