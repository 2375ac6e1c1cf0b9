"""Loggers of a run: figures as CSV always, on TensorBoard where it is installed."""

from argparse import Namespace
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
    """Writes figures to `metrics.csv`, a row at a time, and options to `hparams.yaml`.

    Args:
        folder: the run's.
        first_step: the step that training starts or resumes at; rows before it are kept.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        super().__init__()
        self.folder = folder
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
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        # Lightning adds the number of its epoch, which counts rounds: the step says more.
        figures = {name: value for name, value in metrics.items() if name != "epoch"}
        if self.table is not None and figures:
            self.table.write(step or 0, figures)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        save_hparams_to_yaml(str(self.folder / HPARAMS_FILE), params)


def run_loggers(folder: Path, first_step: int = 0) -> list[Logger]:
    """Loggers that write into a run's folder.

    Args:
        folder: the run's.
        first_step: the step that training starts or resumes at; rows before it are kept.
    """
    loggers: list[Logger] = [MetricsLogger(folder, first_step)]
    if find_spec("tensorboard") is not None:
        # It hides what an earlier process logged from this step on.
        loggers.append(
            TensorBoardLogger(folder, name="tensorboard", version="", purge_step=first_step or None)
        )
    return loggers


def is_rank_zero() -> bool:
    """Whether this process writes files; known before there is a Trainer."""
    rank: int = getattr(rank_zero_only, "rank", 0)
    return rank == 0
