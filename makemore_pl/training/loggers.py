"""Where the figures of a run are logged: CSV always, TensorBoard where it is installed."""

import csv
from importlib.util import find_spec
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

METRICS_FILE = "metrics.csv"


def run_loggers(folder: Path, first_step: int = 0) -> list[Logger]:
    """Loggers that write into a run's folder.

    Args:
        folder: the run's.
        first_step: the step that training goes on from; what was logged before it is kept.
    """
    history = _rows_before(folder / METRICS_FILE, first_step)
    logger = CSVLogger(folder.parent, name=folder.name, version="")
    if history and is_rank_zero():
        # A new writer empties the file: it is handed the old rows, as if it had logged them.
        logger.experiment.metrics.extend(history)
        logger.save()
    loggers: list[Logger] = [logger]
    if find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    return loggers


def is_rank_zero() -> bool:
    """Whether this process writes files; known before there is a Trainer."""
    rank: int = getattr(rank_zero_only, "rank", 0)
    return rank == 0


def _rows_before(file: Path, step: int) -> list[dict[str, str]]:
    if step == 0 or not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as content:
        rows = list(csv.DictReader(content))
    return [{k: v for k, v in row.items() if v} for row in rows if int(row["step"]) < step]
