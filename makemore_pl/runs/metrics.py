"""Where the figures of a run are logged: CSV always, TensorBoard where it is installed."""

import csv
import io
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from makemore_pl.errors import RequestError
from makemore_pl.files import whole_lines, write_whole

METRICS_FILE = "metrics.csv"


class MetricsWriter(ExperimentWriter):
    """Appends rows to `metrics.csv`. A kill at any instant leaves all rows that had been written before.

    Args:
        log_dir: the folder of the file.
        first_step: rows before it are kept, for training goes on from there.
    """

    def __init__(self, log_dir: str, first_step: int) -> None:
        super().__init__(log_dir)
        self.file = Path(self.metrics_file_path)
        self.last: dict[str, Any] = {}
        # The file stays until there is a new row: the checkpoint may be one that cannot be gone on with.
        self.kept: list[dict[str, Any]] | None = []
        if first_step:
            self.kept = self._rows_before(first_step)

    def log_metrics(self, metrics_dict: dict[str, Any], step: int | None = None) -> None:
        """Record a row; one that equals the last is the same row, logged before a checkpoint already."""
        super().log_metrics(metrics_dict, step)
        if self.metrics[-1] == self.last:
            self.metrics.pop()
        else:
            self.last = self.metrics[-1]

    def save(self) -> None:
        """Write what was recorded; a new column means the whole file anew."""
        if not self.metrics:
            return
        has_new_columns = self._record_new_keys()
        if self.kept is not None:
            self._write_anew([*self.kept, *self.metrics])
            self.kept = None
        elif has_new_columns:
            self._write_anew([*csv.DictReader(whole_lines(self.file)), *self.metrics])
        else:
            with self.file.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.metrics_keys).writerows(self.metrics)
        self.metrics = []

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Write them beside, once: a run that is gone on with has the same."""
        if not (Path(self.log_dir) / self.NAME_HPARAMS_FILE).is_file():
            super().log_hparams(params)

    def _rows_before(self, step: int) -> list[dict[str, Any]]:
        """Rows of the file, whose columns go on.

        Raises:
            RequestError: it is not what was written.
        """
        try:
            rows = csv.DictReader(whole_lines(self.file))
            kept = [row for row in rows if int(row["step"]) < step]
            if any(None in row for row in kept):  # more values than columns
                raise ValueError("a row too long")
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise RequestError(
                f"{self.file}: damaged ({type(error).__name__}: {str(error)[:80]}); "
                "move it away to go on without it"
            ) from error
        self.metrics_keys = list(rows.fieldnames or [])
        return kept

    def _write_anew(self, rows: Iterable[dict[str, Any]]) -> None:
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.file, content.getvalue().encode())

    def _check_log_dir_exists(self) -> None:
        """Nothing: Lightning would delete the file here."""


class MetricsLogger(CSVLogger):
    """Lightning's CSV logger with a writer that outlives kills.

    Args:
        folder: the run's.
        first_step: the step that training goes on from; what was logged before it is kept.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        super().__init__(folder.parent, name=folder.name, version="")
        self.first_step = first_step

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsWriter:
        if self._experiment is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = MetricsWriter(self.log_dir, self.first_step)
        assert isinstance(self._experiment, MetricsWriter)
        return self._experiment


def run_loggers(folder: Path, first_step: int = 0) -> list[Logger]:
    """Loggers that write into a run's folder.

    Args:
        folder: the run's.
        first_step: the step that training goes on from; what was logged before it is kept.
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
