"""`Diagnostics`: the Lightning callback that looks inside every so many steps."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from makemore_pl.errors import RequestError
from makemore_pl.inspect.diagnostic_plots import diagnostic_plots
from makemore_pl.inspect.findings import findings_at_start, findings_over_run
from makemore_pl.inspect.measures import Snapshot
from makemore_pl.inspect.plot_style import save_png, style
from makemore_pl.inspect.probe import Probe
from makemore_pl.inspect.step_table import StepRow, StepTable, read_steps
from makemore_pl.model.module import LitBatchNormMLP

DIAGNOSTICS_FILE = "diagnostics.csv"
"""Not `metrics.csv`: a deep network has a hundred columns, on steps of their own."""


class Diagnostics(Callback):
    """Activations, gradients and updates of every N-th step: to CSV and TensorBoard, as pictures, in words.

    Steps in between cost nothing: no hook stays on the network. With several devices, what is looked at is
    the first one's share of the batch. With gradient accumulation it is the last batch before the step.

    Args:
        every_n_steps: optimiser steps from one look to the next; the first is before the first step.
        plots: draw pictures when the fit ends.

    Raises:
        RequestError: `every_n_steps` is below 1.
    """

    def __init__(self, every_n_steps: int = 50, plots: bool = True) -> None:
        if every_n_steps < 1:
            raise RequestError(f"diagnostics: every_n_steps must be at least 1, not {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.plots = plots
        self.rows: list[StepRow] = []
        self.first: Snapshot | None = None
        self.last: Snapshot | None = None
        self._probe: Probe | None = None
        self._table: StepTable | None = None
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            return
        assert isinstance(pl_module, LitBatchNormMLP)
        self._probe = Probe(pl_module.net.layers)
        file, step = folder_of(trainer) / DIAGNOSTICS_FILE, trainer.global_step
        self._table = StepTable(file, first_step=step)
        self.rows = [row for row in read_steps(file) if row.step < step] if step else []

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if self._probe is not None and trainer.global_step % self.every_n_steps == 0:
            self._step = trainer.global_step
            self._probe.attach()

    def on_before_optimizer_step(self, trainer: L.Trainer, *args: Any) -> None:
        if self._probe is not None and self._probe.attached:
            scaler = getattr(trainer.precision_plugin, "scaler", None)  # float16 only
            self._probe.read_gradients(scale=1.0 if scaler is None else scaler.get_scale())

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self._probe is None or not self._probe.attached:
            return
        snapshot = self._probe.detach(self._step)
        if snapshot is None:  # gradients are still being accumulated
            return
        self.first, self.last = self.first or snapshot, snapshot
        self.rows.append(snapshot.row)
        assert self._table is not None
        # An empty cell for what could not be measured, so that columns keep the order of the layers.
        measured = {name: f"{value:.6g}" for name, value in snapshot.row.figures.items()}
        self._table.write(snapshot.step, {name: measured.get(name, "") for name in snapshot.figures})
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                _to_tensorboard(logger, snapshot)
        if snapshot.step == 0:
            _warn(findings_at_start(snapshot.row))

    def on_exception(self, trainer: L.Trainer, *args: Any) -> None:
        if self._probe is not None:
            self._probe.detach(self._step)

    def on_fit_end(self, trainer: L.Trainer, *args: Any) -> None:
        _warn(findings_over_run(self.rows))
        if not self.plots or self.first is None or self.last is None:
            return
        snapshots = [self.first] if self.first is self.last else [self.first, self.last]
        with style():
            for name, draw in diagnostic_plots(snapshots, self.rows).items():
                save_png(draw(), folder_of(trainer) / "plots" / f"{name}.png")


def folder_of(trainer: L.Trainer) -> Path:
    """The folder that the Trainer's first logger writes to: with `makemore fit`, the run's folder."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def _to_tensorboard(logger: TensorBoardLogger, snapshot: Snapshot) -> None:
    for name, value in snapshot.row.figures.items():
        logger.experiment.add_scalar(f"diagnostics/{name}", value, snapshot.step)
    for name, histogram in snapshot.histograms.items():
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


def _warn(findings: list[str]) -> None:
    for finding in findings:
        rank_zero_warn(finding)
