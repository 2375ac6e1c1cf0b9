"""The material of a report: the checkpoint, and what there is of its list and its run's folder.

Only the checkpoint must be there. For each other part, `missing` says why it is not.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import DataError, ModelFileError, RequestError
from makemore_pl.export.export import weights_id
from makemore_pl.inspect.diagnostics import DIAGNOSTICS_FILE
from makemore_pl.inspect.step_table import StepRow, read_steps
from makemore_pl.model.network import BatchNormMLP, is_batch_norm
from makemore_pl.runs.checkpoint import Checkpoint, read_checkpoint
from makemore_pl.runs.metrics import METRICS_FILE
from makemore_pl.runtime.engines import open_engine
from makemore_pl.runtime.metadata import MODEL_FILE, REPORT_FILE
from makemore_pl.vocabulary import Vocabulary

CONFIG_FILE = "config.yaml"


@dataclass
class Material:
    """A checkpoint and what belongs to it.

    Attributes:
        checkpoint: as read.
        model: its network, in eval mode.
        data: its list, split as in training; None if it is not available.
        metrics: rows of the run's `metrics.csv`.
        diagnostics: rows of the run's `diagnostics.csv`.
        export: folder of the files exported from these very weights, or None.
        versions: the libraries that exported them.
        verification: what `verification.json` says of them.
        config: text of the run's `config.yaml`.
        missing: why a part is None or empty, by the part's name.
    """

    checkpoint: Checkpoint
    model: BatchNormMLP
    data: NamesDataModule | None = None
    metrics: list[StepRow] = field(default_factory=list)
    diagnostics: list[StepRow] = field(default_factory=list)
    export: Path | None = None
    versions: str = ""
    verification: dict[str, Any] | None = None
    config: str | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.checkpoint.data["characters"])

    @property
    def has_batch_norm(self) -> bool:
        return any(map(is_batch_norm, self.model.layers))

    @cached_property
    def training_examples(self) -> tuple[Tensor, Tensor] | None:
        """Contexts int64 (N, T) and targets int64 (N,) of the training split."""
        return None if self.data is None else self.examples("train")

    def examples(self, split: str) -> tuple[Tensor, Tensor]:
        """Contexts int64 (N, T) and targets int64 (N,) of a split; the list must be available."""
        assert self.data is not None
        return self.data.examples(split)


def gather(checkpoint: Path | str, names: str | None = None) -> Material:
    """Read the checkpoint, and what there is beside it.

    Args:
        checkpoint: a checkpoint of `makemore fit`.
        names: the training list, where it no longer lies where it lay in training.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataError, RequestError: `names` cannot be read, or is another list.
    """
    source = read_checkpoint(checkpoint)
    folder = source.path.parent
    material = Material(source, source.load_model())
    _add_list(material, names)
    material.metrics = _rows(
        material, "metrics", folder / METRICS_FILE, f"There is no {METRICS_FILE} beside the checkpoint."
    )
    material.diagnostics = _rows(
        material,
        "diagnostics",
        folder / DIAGNOSTICS_FILE,
        "The run did not record what happened inside while it trained. A run with --config diagnostics does.",
    )
    _add_export(material, folder)
    _add_config(material, folder / CONFIG_FILE)
    return material


def _add_list(material: Material, names: str | None) -> None:
    arguments = {**material.checkpoint.data_arguments, "characters": material.checkpoint.data["characters"]}
    path = names or arguments["path"]
    changed = f"{path} is not the list that was trained on: its SHA-256 is another"
    try:
        data = NamesDataModule(**{**arguments, "path": path})
    except DataError as error:
        if names is not None:
            raise
        material.missing["data"] = f"The training list is not available ({error})."
        return
    if data.list.sha256 == material.checkpoint.data["list_sha256"]:
        material.data = data
    elif names is not None:
        raise RequestError(f"report: {changed}")
    else:
        material.missing["data"] = f"The training list is not available ({changed})."


def _rows(material: Material, part: str, file: Path, otherwise: str) -> list[StepRow]:
    try:
        rows = read_steps(file)
    except RequestError as error:
        rows, otherwise = [], f"{error}."
    if not rows:
        material.missing[part] = otherwise
    return rows


def _add_export(material: Material, folder: Path) -> None:
    if not (folder / MODEL_FILE).is_file():
        material.missing["export"] = f"Nothing has been exported beside the checkpoint: no {MODEL_FILE}."
        return
    try:
        info = open_engine(folder / MODEL_FILE, prepare=False).info
    except ModelFileError as error:
        material.missing["export"] = f"The exported file cannot be read ({error})."
        return
    if info.export_id != weights_id(material.model):
        material.missing["export"] = "The files exported beside the checkpoint were made from other weights."
        return
    material.export = folder
    material.versions = ", ".join(f"{name} {version}" for name, version in info.versions.items())
    try:
        material.verification = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        material.missing["export"] = f"There is no readable {REPORT_FILE} beside the checkpoint."


def _add_config(material: Material, file: Path) -> None:
    try:
        material.config = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        material.missing["config"] = f"There is no {CONFIG_FILE} beside the checkpoint."
