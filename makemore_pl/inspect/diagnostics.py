"""`Diagnostics`: the Lightning callback that looks inside every so many steps."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer

from makemore_pl.errors import RequestError
from makemore_pl.inspect import diagnostic_plots as pictures
from makemore_pl.inspect.findings import Finding, findings_at_start, findings_over_run
from makemore_pl.inspect.measures import Snapshot
from makemore_pl.inspect.plot_style import save_png, style
from makemore_pl.inspect.probe import Probe
from makemore_pl.inspect.records import DIAGNOSTICS_FILE, Record, RecordWriter, read_records
from makemore_pl.model.module import LitBatchNormMLP

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        self.records: list[Record] = []
        self.first: Snapshot | None = None
        self.last: Snapshot | None = None
        self._probe: Probe | None = None
        self._writer: RecordWriter | None = None
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            return
        assert isinstance(pl_module, LitBatchNormMLP)
        self._probe = Probe(pl_module.net.layers)
        file = folder_of(trainer) / DIAGNOSTICS_FILE
        # A run that is gone on with keeps what it had before the step that it goes on from.
        self.records = [record for record in read_records(file) if record.step < trainer.global_step]
        self._writer = RecordWriter(file, list(self.records), trainer.loggers)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._probe is not None and trainer.global_step % self.every_n_steps == 0:
            self._step = trainer.global_step
            self._probe.attach()

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._probe is not None and self._probe.attached:
            scaler = getattr(trainer.precision_plugin, "scaler", None)  # float16 only
            self._probe.read_gradients(scale=1.0 if scaler is None else scaler.get_scale())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._probe is None or not self._probe.attached:
            return
        snapshot = self._probe.detach(self._step)
        if snapshot is None:  # gradients are still being accumulated
            return
        assert self._writer is not None
        record = self._writer.write(snapshot)
        self.records.append(record)
        self.first, self.last = self.first or snapshot, snapshot
        if record.step == 0:
            _warn(findings_at_start(record))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if self._probe is not None:
            self._probe.detach(self._step)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _warn(findings_over_run(self.records))
        if self.plots and self.first is not None and self.last is not None:
            draw_pictures(self.first, self.last, self.records, folder_of(trainer) / "plots")


def folder_of(trainer: L.Trainer) -> Path:
    """Where the Trainer's first logger writes: with `makemore fit`, the run's folder."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def draw_pictures(first: Snapshot, last: Snapshot, records: list[Record], folder: Path) -> None:
    """Write PNG files: the first snapshot beside the last where a picture is of one step."""
    snapshots = [first] if first is last else [first, last]
    drawn: dict[str, Callable[[], Figure]] = {
        "activations": lambda: pictures.activations(snapshots),
        "activation_gradients": lambda: pictures.activation_gradients(snapshots),
        "weight_gradients": lambda: pictures.weight_gradients(snapshots),
        "units": lambda: pictures.units_at_their_ends(last),
        "spreads": lambda: pictures.spreads(last),
        "updates": lambda: pictures.updates(records),
        "saturation": lambda: pictures.saturation(records),
    }
    with style():
        for name, draw in drawn.items():
            save_png(draw(), folder / f"{name}.png")


def _warn(findings: list[Finding]) -> None:
    for finding in findings:
        rank_zero_warn(str(finding))
