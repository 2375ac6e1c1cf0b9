"""The callback: what it writes, warns of and leaves alone."""

import csv
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers import QUICK, RunCommand, in_a_process, trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import RequestError
from makemore_pl.inspect.diagnostics import DIAGNOSTICS_FILE, Diagnostics
from makemore_pl.inspect.probe import Probe
from makemore_pl.inspect.step_table import read_steps
from makemore_pl.model.module import LitBatchNormMLP

PLOTS = {
    "activations",
    "activation_gradients",
    "weight_gradients",
    "units",
    "spreads",
    "updates",
    "saturation",
}


@pytest.fixture
def data(list_of_all_letters: Path) -> NamesDataModule:
    return NamesDataModule(str(list_of_all_letters), batch_size=256, merge=False)


def fitted(
    data: NamesDataModule, diagnostics: Callback, folder: Path, **options: Any
) -> tuple[LitBatchNormMLP, L.Trainer]:
    L.seed_everything(1)
    network = options.pop("network", {})
    module = LitBatchNormMLP(data.vocab_size, data.block_size, **{"n_hidden": 20, **network})
    fitter = trainer(**{"max_epochs": 3, "callbacks": [diagnostics], "default_root_dir": folder, **options})
    fitter.fit(module, datamodule=data)
    return module, fitter


def test_update_ratio_is_what_the_step_has_changed(data: NamesDataModule, tmp_path: Path) -> None:
    """With plain SGD and clipping, lr · clipped gradient over the weights, computed apart from the probe."""
    expected: list[float] = []

    class ByHand(Callback):
        def on_before_zero_grad(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
            self.before = pl_module.net.layers.output.weight.detach().clone()

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
            weight = pl_module.net.layers.output.weight
            update = 0.1 * weight.grad.std(correction=0)  # the gradient as clipping has left it
            expected.append(math.log10(update / self.before.std(correction=0)))

    class Plain(LitBatchNormMLP):
        def configure_optimizers(self) -> torch.optim.Optimizer:  # type: ignore[override]
            return torch.optim.SGD(self.parameters(), lr=0.1)

    L.seed_everything(1)
    diagnostics = Diagnostics(every_n_steps=1, plots=False)
    fitter = trainer(
        max_steps=5,
        callbacks=[ByHand(), diagnostics],
        default_root_dir=tmp_path,
        gradient_clip_val=0.05,
        limit_val_batches=0,
    )
    fitter.fit(Plain(data.vocab_size, data.block_size), datamodule=data)
    found = [row.figures["output.weight/log10_update_to_data"] for row in diagnostics.rows]
    assert found == pytest.approx(expected, abs=1e-3)
    assert len(found) == 5


def test_nothing_is_attached_between_samples_and_training_is_the_same(
    data: NamesDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached: list[int] = []
    probes: list[Probe] = []
    attach = Probe.attach

    def watched_attach(probe: Probe) -> None:
        assert not probe.attached
        attach(probe)
        probes.append(probe)

    class Watch(Callback):
        def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Tensor) -> None:
            if probes and probes[-1].attached:
                attached.append(trainer.global_step)

    monkeypatch.setattr(Probe, "attach", watched_attach)
    network = {"dropout": 0.2}
    without, _ = fitted(data, Watch(), tmp_path, network=network)
    assert not probes
    diagnostics = Diagnostics(every_n_steps=4, plots=False)
    with_it, fitter = fitted(data, diagnostics, tmp_path, network=network, callbacks=[diagnostics, Watch()])
    assert attached == list(range(0, fitter.global_step, 4)) == [row.step for row in diagnostics.rows]
    assert not probes[-1].attached
    for expected, found in zip(without.parameters(), with_it.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_mixed_precision_and_accumulated_gradients(data: NamesDataModule, tmp_path: Path) -> None:
    diagnostics = Diagnostics(every_n_steps=1, plots=False)
    _, fitter = fitted(data, diagnostics, tmp_path, precision="bf16-mixed", accumulate_grad_batches=2)
    assert [row.step for row in diagnostics.rows] == list(range(fitter.global_step))
    for row in diagnostics.rows:
        assert all(map(math.isfinite, row.figures.values()))
        assert row.figures["tanh_1/gradient_std"] > 0


def test_an_interrupted_step_leaves_no_hook(data: NamesDataModule, tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Tensor) -> None:
            self.tanh = pl_module.net.layers.tanh_1
            raise RuntimeError("stopped")

    interrupt, diagnostics = Interrupt(), Diagnostics(1)
    with pytest.raises(RuntimeError, match="stopped"):
        fitted(data, interrupt, tmp_path, callbacks=[diagnostics, interrupt])
    assert not interrupt.tanh(torch.ones(2, requires_grad=True)).retains_grad  # as a hook would see to


def test_a_resumed_run_keeps_its_rows(data: NamesDataModule, tmp_path: Path) -> None:
    _, first = fitted(data, Diagnostics(every_n_steps=2, plots=False), tmp_path, max_epochs=2)
    first.save_checkpoint(tmp_path / "last.ckpt")
    L.seed_everything(1)
    module = LitBatchNormMLP(data.vocab_size, data.block_size, n_hidden=20)
    diagnostics = Diagnostics(every_n_steps=2)
    second = trainer(max_epochs=4, callbacks=[diagnostics], default_root_dir=tmp_path)
    second.fit(module, datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    steps = [row.step for row in read_steps(tmp_path / DIAGNOSTICS_FILE)]
    assert steps == list(range(0, second.global_step, 2)) == [row.step for row in diagnostics.rows]
    assert {path.stem for path in (tmp_path / "plots").glob("*.png")} == PLOTS


def test_a_fast_dev_run_writes_nothing_and_zero_is_refused(data: NamesDataModule, tmp_path: Path) -> None:
    fitted(data, Diagnostics(every_n_steps=10), tmp_path, fast_dev_run=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RequestError, match="every_n_steps must be at least 1"):
        Diagnostics(every_n_steps=0)


def test_shipped_config_writes_csv_tensorboard_and_plots(
    makemore: RunCommand, list_of_all_letters: Path, cwd: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = ("--data.path", list_of_all_letters, "--data.batch_size", 64, "--data.merge", "false")
    options = (*data, "--export.enabled", "false", *QUICK)
    result = makemore("fit", "--config", "diagnostics", *options).succeeds()
    assert "linear_1" not in result.err  # a healthy recipe brings no warning
    run = cwd / "checkpoints" / "short"
    rows = list(csv.DictReader((run / DIAGNOSTICS_FILE).read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(0, 50 * len(rows), 50))
    assert len(rows) > 1
    assert "tanh_1" not in (run / "metrics.csv").read_text()
    for name in PLOTS:
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    logged = [event.value for event in events.Scalars("diagnostics/tanh_1/saturated")]
    assert logged == pytest.approx([float(row["tanh_1/saturated"]) for row in rows], rel=1e-4)
    assert len(events.Histograms("diagnostics/tanh_1/output")) == len(rows)
    # By its short name, and an interval that is none.
    bad = makemore(
        "fit", "--trainer.callbacks+=Diagnostics", "--trainer.callbacks.every_n_steps", 0, *options
    )
    assert bad.code == 2
    assert "every_n_steps must be at least 1, not 0" in bad.err


@pytest.mark.parametrize(
    ("network", "lr", "messages"),
    [
        (
            {"init": "zero", "batch_norm": False, "output_gain": None},
            0.02,
            ["embedding.weight: gets no"],
        ),
        ({}, 1e-6, ["linear_1.weight: .* too low", "embedding.weight: .* too low"]),
        ({}, 5.0, ["tanh_1: .* units are dead"]),
        ({}, 0.02, []),
    ],
)
def test_a_fit_warns_in_words(
    data: NamesDataModule, tmp_path: Path, network: dict[str, Any], lr: float, messages: list[str]
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = {**network, "lr": lr, "n_hidden": 100}
        fitted(data, Diagnostics(1, plots=False), tmp_path, network=network, max_epochs=15)
    texts = [
        str(warning.message) for warning in caught if re.match(r"\w+(\.weight)?: ", str(warning.message))
    ]
    for message in messages:
        assert [text for text in texts if re.match(message, text)], texts
    assert bool(texts) == bool(messages), texts
    assert len(set(texts)) == len(texts)  # each is said once


@pytest.mark.slow
def test_warnings_of_the_program_are_one_line_each(list_of_all_letters: Path, tmp_path: Path) -> None:
    zero = ["--model.init", "zero", "--model.batch_norm", "false", "--model.output_gain", "null"]
    command = [sys.executable, "-m", "makemore_pl", "fit", "--config", "diagnostics", *QUICK, *zero]
    command += ["--data.path", str(list_of_all_letters), "--export.enabled", "false"]
    err = in_a_process(*command, cwd=tmp_path).succeeds().err
    assert re.search(r"^makemore: warning: embedding\.weight: gets no gradient", err, re.MULTILINE)
    assert ".py" not in err
