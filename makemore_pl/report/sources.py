"""The material of a report: the checkpoint, and what there is of its list and its run's folder.

Only the checkpoint must be there. For each other part, `missing` says why it is not.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import DataError, ModelFileError, RequestError
from makemore_pl.export.export import weights_id
from makemore_pl.exported.metadata import MODEL_FILE, REPORT_FILE
from makemore_pl.inspect.diagnostics import DIAGNOSTICS_FILE
from makemore_pl.inspect.step_table import StepRow, read_steps
from makemore_pl.model.network import is_batch_norm
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.runs.metrics import METRICS_FILE
from makemore_pl.runtime.engines import open_engine
from makemore_pl.vocabulary import Vocabulary

CONFIG_FILE = "config.yaml"
BESIDE = "beside the checkpoint"
NOT_RECORDED = (
    "The run did not record what happened inside while it trained. A run with --config diagnostics does."
)


class Material:
    """A checkpoint, and what belongs to it in its folder and among the lists.

    Args:
        checkpoint: a checkpoint of `makemore fit`.
        names: the training list, where it no longer lies where it lay in training.

    Attributes:
        checkpoint: as read.
        model: its network, in eval mode.
        data: its list, split as in training; None if it is not available.
        metrics, diagnostics: rows of the run's `metrics.csv` and `diagnostics.csv`.
        export: folder of the files exported from these very weights, or None.
        versions: the libraries that exported them.
        verification: what `verification.json` says of them.
        config: text of the run's `config.yaml`.
        missing: why a part is None or empty, by the part's name.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataError: `names` cannot be read, or is another list.
    """

    def __init__(self, checkpoint: Path | str, names: str | None = None) -> None:
        self.missing: dict[str, str] = {}
        self.checkpoint = read_checkpoint(checkpoint)
        self.model = self.checkpoint.load_model()
        self.vocabulary = Vocabulary(self.checkpoint.data["characters"])
        self.has_batch_norm = any(map(is_batch_norm, self.model.layers))
        self.data = self._list(names)
        folder = self.checkpoint.path.parent
        self.metrics = self._rows("metrics", folder / METRICS_FILE, f"There is no {METRICS_FILE} {BESIDE}.")
        self.diagnostics = self._rows("diagnostics", folder / DIAGNOSTICS_FILE, NOT_RECORDED)
        self.export: Path | None = None
        self.versions = ""
        self.verification: dict[str, Any] | None = None
        self._add_export(folder)
        self.config: str | None = None
        try:
            self.config = (folder / CONFIG_FILE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            self.missing["config"] = f"There is no {CONFIG_FILE} {BESIDE}."

    @cached_property
    def training_examples(self) -> tuple[Tensor, Tensor] | None:
        """Contexts int64 (N, T) and targets int64 (N,) of the training split."""
        return None if self.data is None else self.examples("train")

    def examples(self, split: str) -> tuple[Tensor, Tensor]:
        """Contexts int64 (N, T) and targets int64 (N,) of a split; the list must be available."""
        assert self.data is not None
        return self.data.examples(split)

    def _list(self, names: str | None) -> NamesDataModule | None:
        try:
            return self.checkpoint.open_list(names)
        except DataError as error:
            if names is not None:
                raise
            self.missing["data"] = (
                f"The training list is not available ({error}); --list FILE says where it is."
            )
            return None

    def _rows(self, part: str, file: Path, otherwise: str) -> list[StepRow]:
        try:
            rows = read_steps(file)
        except RequestError as error:
            rows, otherwise = [], f"{error}."
        if not rows:
            self.missing[part] = otherwise
        return rows

    def _add_export(self, folder: Path) -> None:
        if not (folder / MODEL_FILE).is_file():
            self.missing["export"] = f"Nothing has been exported {BESIDE}: no {MODEL_FILE}."
            return
        try:
            info = open_engine(folder / MODEL_FILE, prepare=False).info
        except ModelFileError as error:
            self.missing["export"] = f"The exported file cannot be read ({error})."
            return
        if info.export_id != weights_id(self.model):
            self.missing["export"] = f"The files exported {BESIDE} were made from other weights."
            return
        self.export = folder
        self.versions = ", ".join(f"{name} {version}" for name, version in info.versions.items())
        try:
            self.verification = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.missing["export"] = f"There is no readable {REPORT_FILE} {BESIDE}."
