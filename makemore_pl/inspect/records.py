"""Where the figures go: `diagnostics.csv`, one row for each step that was looked at, and TensorBoard.

Not into `metrics.csv`: a deep network has a hundred columns, on steps of their own.
"""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from makemore_pl.files import whole_lines, write_whole
from makemore_pl.inspect.measures import Histogram, Snapshot

DIAGNOSTICS_FILE = "diagnostics.csv"


@dataclass(frozen=True)
class Record:
    """The numbers of one snapshot.

    Attributes:
        step: optimiser steps before it.
        scalars: by names like `tanh_1/saturated`; what could not be measured is missing.
    """

    step: int
    scalars: dict[str, float]

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Record":
        return cls(snapshot.step, {k: v for k, v in snapshot.scalars().items() if not math.isnan(v)})


def read_records(file: Path) -> list[Record]:
    """Read a `diagnostics.csv` back; no file, no records."""
    return [
        Record(int(row.pop("step")), {name: float(value) for name, value in row.items() if value})
        for row in csv.DictReader(whole_lines(file))
    ]


class RecordWriter:
    """Writes records as they come.

    Args:
        file: the CSV file; it is begun anew.
        earlier: records to begin with, those of the run that is gone on with.
        loggers: the Trainer's; those of TensorBoard get scalars and histograms.
    """

    def __init__(self, file: Path, earlier: list[Record], loggers: Iterable[Logger]) -> None:
        self.file = file
        self.earlier = earlier
        self.tensorboards = [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
        self._columns: list[str] = []

    def write(self, snapshot: Snapshot) -> Record:
        """Add one row, which is on disk when this returns, and give it back."""
        record = Record.of(snapshot)
        if not self._columns:
            self._columns = list(snapshot.scalars())
            content = io.StringIO(newline="")
            rows = csv.writer(content, lineterminator="\n")
            rows.writerow(["step", *self._columns])
            rows.writerows(self._cells(row) for row in self.earlier)
            write_whole(self.file, content.getvalue().encode())
        with self.file.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(self._cells(record))
        for logger in self.tensorboards:
            _to_tensorboard(logger, snapshot, record)
        return record

    def _cells(self, record: Record) -> list[str]:
        values = (record.scalars.get(column) for column in self._columns)
        return [str(record.step), *("" if value is None else f"{value:.6g}" for value in values)]


def _to_tensorboard(logger: TensorBoardLogger, snapshot: Snapshot, record: Record) -> None:
    for name, value in record.scalars.items():
        logger.experiment.add_scalar(f"diagnostics/{name}", value, snapshot.step)
    histograms: dict[str, Histogram] = {f"{w.name}/gradient": w.gradients for w in snapshot.weights}
    for tanh in snapshot.tanhs:
        histograms |= {f"{tanh.name}/output": tanh.outputs, f"{tanh.name}/output_gradient": tanh.gradients}
    for name, histogram in histograms.items():
        middles = (histogram.edges[:-1] + histogram.edges[1:]) / 2
        logger.experiment.add_histogram_raw(
            f"diagnostics/{name}",
            min=histogram.edges[0],
            max=histogram.edges[-1],
            num=int(histogram.counts.sum()),
            sum=float(histogram.counts @ middles),
            sum_squares=float(histogram.counts @ middles**2),
            bucket_limits=histogram.edges[1:].tolist(),
            bucket_counts=histogram.counts.tolist(),
            global_step=snapshot.step,
        )
