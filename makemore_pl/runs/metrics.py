"""Loggers of a run: figures as CSV always, on TensorBoard where it is installed."""

from argparse import Namespace
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from makemore_pl.inspect.step_table import StepTable

METRICS_FILE = "metrics.csv"
HPARAMS_FILE = "hparams.yaml"


class MetricsLogger(Logger):
    """Writes figures to `metrics.csv`, a row at a time, and with the first of them options to `hparams.yaml`.

    Lightning hands the options over before it restores a checkpoint: written at once, those of a run that
    cannot be resumed would have changed its files. So too on TensorBoard, see `RunTensorBoard`.

    Args:
        folder: the run's.
        first_step: the step that training starts or resumes at; rows before it are kept.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        super().__init__()
        self.folder = folder
        self.options: dict[str, Any] | Namespace | None = None
        self.table: StepTable | None = None
        if is_rank_zero():
            self.table = StepTable(folder / METRICS_FILE, first_step)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def version(self) -> str:
        return ""

    @property
    def log_dir(self) -> str:
        return str(self.folder)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        self.options = params

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.options is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_hparams_to_yaml(str(self.folder / HPARAMS_FILE), self.options)
            self.options = None
        # Lightning adds the number of its epoch, which counts rounds: the step says more.
        figures = {name: value for name, value in metrics.items() if name != "epoch"}
        if self.table is not None and figures:
            self.table.write(step or 0, figures)


class RunTensorBoard(TensorBoardLogger):
    """The same on TensorBoard."""

    has_begun = False
    options: tuple[Any, ...] | None = None

    def log_hyperparams(self, *options: Any, **_: Any) -> None:
        self.has_begun, self.options = True, options

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.has_begun = True
        options, self.options = self.options, None  # before TensorBoard logs a figure with them
        if options is not None:
            super().log_hyperparams(*options)
        super().log_metrics(metrics, step)

    def save(self) -> None:
        if self.has_begun and self.options is None:  # else there is nothing to save yet
            super().save()

    @property
    def experiment(self) -> Any:
        """TensorBoard's writer, which makes a file; there is none before Lightning has set everything up."""
        if not self.has_begun:
            raise AttributeError("the run has not begun")
        return super().experiment


def run_loggers(folder: Path, first_step: int) -> list[Logger]:
    """Loggers that write into a run's folder; arguments as of `MetricsLogger`."""
    loggers: list[Logger] = [MetricsLogger(folder, first_step)]
    if find_spec("tensorboard") is not None:
        # It hides what an earlier process logged from this step on.
        loggers.append(RunTensorBoard(folder, name="tensorboard", version="", purge_step=first_step or None))
    return loggers


def is_rank_zero() -> bool:
    """Tell whether this process writes files; known before there is a Trainer."""
    rank: int = getattr(rank_zero_only, "rank", 0)
    return rank == 0
