import csv
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from helpers import QUICK, RunCommand, trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import RequestError
from makemore_pl.inspect import diagnostic_plots as pictures
from makemore_pl.inspect.diagnostics import Diagnostics
from makemore_pl.inspect.findings import findings_at_start, findings_over_run
from makemore_pl.inspect.measures import Histogram, Snapshot
from makemore_pl.inspect.plot_style import log_axis, panels_of, scientific, style
from makemore_pl.inspect.probe import Probe
from makemore_pl.inspect.records import DIAGNOSTICS_FILE, Record, read_records
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP

PLOTS = (
    "activations",
    "activation_gradients",
    "weight_gradients",
    "units",
    "spreads",
    "updates",
    "saturation",
)


@pytest.fixture
def data(short_list: Path) -> NamesDataModule:
    return NamesDataModule(str(short_list), batch_size=256, merge=False)


def fitted(
    data: NamesDataModule, diagnostics: Callback, folder: Path, **options: Any
) -> tuple[LitBatchNormMLP, L.Trainer]:
    L.seed_everything(1)
    network = options.pop("network", {})
    module = LitBatchNormMLP(data.vocab_size, data.block_size, **{"n_hidden": 20, **network})
    fitter = trainer(**{"max_epochs": 3, "callbacks": [diagnostics], "default_root_dir": folder, **options})
    fitter.fit(module, datamodule=data)
    return module, fitter


def look_at(model: BatchNormMLP, contexts: Tensor, targets: Tensor) -> Snapshot:
    """One forward and backward pass through a probe."""
    probe = Probe(model.layers)
    probe.attach()
    F.cross_entropy(model(contexts), targets).backward()
    probe.read_gradients()
    snapshot = probe.detach(step=0)
    assert snapshot is not None
    return snapshot


def random_batch(n: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(27, (n, 3), generator=generator), torch.randint(27, (n,), generator=generator)


def test_figures_are_those_computed_by_hand() -> None:
    model = BatchNormMLP(27, 3, n_hidden=20, init_seed=1, hidden_gain=3, batch_norm=False)
    with torch.no_grad():
        model.layers.linear_1.bias[:2] = 50  # two units that are always at their end
    contexts, targets = random_batch()
    snapshot = look_at(model, contexts, targets)

    embedded = model.layers.embedding(contexts).flatten(1)
    linear = model.layers.linear_1(embedded)
    tanh = linear.tanh()
    logits = model.layers.output(tanh)
    loss = F.cross_entropy(logits, targets)
    by_hand = dict(
        zip(
            ("linear_1", "tanh_1", "output", "weight"),
            torch.autograd.grad(loss, (linear, tanh, logits, model.layers.output.weight)),
            strict=True,
        )
    )
    for layer, output in zip(snapshot.layers, (linear, tanh, logits), strict=True):
        expected = (output.mean(), output.std(correction=0))
        assert (layer.mean, layer.std) == pytest.approx([value.item() for value in expected], rel=1e-5)
        assert layer.gradient_std == pytest.approx(by_hand[layer.name].std(correction=0).item(), rel=1e-5)

    [figures] = snapshot.tanhs
    assert figures.saturated == pytest.approx((tanh.abs() > 0.97).float().mean().item())
    assert figures.dead == pytest.approx(2 / 20)
    assert figures.at_ends.tolist() == (tanh.abs() > 0.99).tolist()
    assert figures.outputs.counts.sum() == tanh.numel() == figures.gradients.counts.sum()
    assert (figures.outputs.edges[0], figures.outputs.edges[-1]) == (-1, 1)

    weight = snapshot.weights[-1]
    assert (weight.name, weight.shape) == ("output.weight", (27, 20))
    ratio = by_hand["weight"].std(correction=0) / model.layers.output.weight.std(correction=0)
    assert weight.gradient_to_data == pytest.approx(ratio.item(), rel=1e-5)
    assert math.isnan(weight.log10_update_to_data)  # there was no step


def test_a_unit_is_dead_only_where_it_is_always_at_its_end() -> None:
    model = BatchNormMLP(27, 3, n_hidden=20, init_seed=1, hidden_gain=20, batch_norm=False)
    [figures] = look_at(model, *random_batch()).tanhs
    assert figures.saturated > 0.8
    assert figures.dead == 0


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
    found = [record.scalars["output.weight/log10_update_to_data"] for record in diagnostics.records]
    assert found == pytest.approx(expected, abs=1e-3)
    assert len(found) == 5


def test_nothing_is_attached_between_samples_and_training_is_the_same(
    data: NamesDataModule, tmp_path: Path
) -> None:
    attached: dict[int, bool] = {}

    class Watch(Callback):
        def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Tensor) -> None:
            attached[trainer.global_step] = any(layer._forward_hooks for layer in pl_module.net.layers)

    network = {"dropout": 0.2}
    without, _ = fitted(data, Watch(), tmp_path, network=network)
    assert not any(attached.values())
    diagnostics = Diagnostics(every_n_steps=4, plots=False)
    with_it, _ = fitted(data, diagnostics, tmp_path, network=network, callbacks=[diagnostics, Watch()])
    assert [step for step, is_attached in attached.items() if is_attached] == [
        step for step in attached if step % 4 == 0
    ]
    assert [record.step for record in diagnostics.records] == [step for step in attached if step % 4 == 0]
    assert not any(layer._forward_hooks for layer in with_it.net.layers)
    for expected, found in zip(without.parameters(), with_it.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_mixed_precision_and_accumulated_gradients(data: NamesDataModule, tmp_path: Path) -> None:
    diagnostics = Diagnostics(every_n_steps=1, plots=False)
    _, fitter = fitted(data, diagnostics, tmp_path, precision="bf16-mixed", accumulate_grad_batches=2)
    assert [record.step for record in diagnostics.records] == list(range(fitter.global_step))
    for record in diagnostics.records:
        assert all(math.isfinite(value) for value in record.scalars.values())
        assert record.scalars["tanh_1/gradient_std"] > 0


def test_gradients_of_a_scaled_loss_are_scaled_back() -> None:
    """As in float16, where the loss is multiplied so that small gradients do not vanish."""
    model = BatchNormMLP(27, 3, n_hidden=20, init_seed=1)
    contexts, targets = random_batch()
    expected = look_at(model, contexts, targets)
    model.zero_grad()
    probe = Probe(model.layers)
    probe.attach()
    (1024 * F.cross_entropy(model(contexts), targets)).backward()
    for parameter in model.parameters():
        parameter.grad /= 1024
    probe.read_gradients(scale=1024)
    found = probe.detach(0)
    assert found is not None
    assert found.scalars() == pytest.approx(expected.scalars(), rel=1e-4, nan_ok=True)


def test_an_interrupted_step_leaves_no_hook(data: NamesDataModule, tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Tensor) -> None:
            self.layers = pl_module.net.layers
            raise RuntimeError("stopped")

    interrupt = Interrupt()
    with pytest.raises(RuntimeError, match="stopped"):
        fitted(data, interrupt, tmp_path, callbacks=[Diagnostics(1), interrupt])
    assert not any(layer._forward_hooks for layer in interrupt.layers)


def test_a_run_that_is_gone_on_with_keeps_its_rows(data: NamesDataModule, tmp_path: Path) -> None:
    _, first = fitted(data, Diagnostics(every_n_steps=2, plots=False), tmp_path, max_epochs=2)
    first.save_checkpoint(tmp_path / "last.ckpt")
    L.seed_everything(1)
    module = LitBatchNormMLP(data.vocab_size, data.block_size, n_hidden=20)
    diagnostics = Diagnostics(every_n_steps=2)
    second = trainer(max_epochs=4, callbacks=[diagnostics], default_root_dir=tmp_path)
    second.fit(module, datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    steps = [record.step for record in read_records(tmp_path / DIAGNOSTICS_FILE)]
    assert steps == list(range(0, second.global_step, 2)) == [record.step for record in diagnostics.records]
    assert {path.stem for path in (tmp_path / "plots").glob("*.png")} == set(PLOTS)


def test_a_step_between_samples_is_not_drawn_and_zero_is_refused(
    data: NamesDataModule, tmp_path: Path
) -> None:
    fitted(data, Diagnostics(every_n_steps=10), tmp_path, fast_dev_run=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RequestError, match="every_n_steps must be at least 1"):
        Diagnostics(every_n_steps=0)


def test_shipped_config_writes_csv_tensorboard_and_pictures(
    makemore: RunCommand, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    data = ("--data.path", short_list, "--data.batch_size", 64, "--data.merge", "false")
    options = (*data, "--export.enabled", "false", *QUICK)
    result = makemore("fit", "--config", "diagnostics", *options)
    assert result.code == 0, result.err
    assert "linear_1" not in result.err  # a healthy recipe is left in peace
    run = tmp_path / "checkpoints" / "short"
    rows = list(csv.DictReader((run / DIAGNOSTICS_FILE).read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(0, 50 * len(rows), 50))
    assert len(rows) > 1
    assert "tanh_1/saturated" in rows[0]
    assert "tanh_1" not in (run / "metrics.csv").read_text()
    for name in PLOTS:
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    logged = [event.value for event in events.Scalars("diagnostics/tanh_1/saturated")]
    assert logged == pytest.approx([float(row["tanh_1/saturated"]) for row in rows], rel=1e-4)
    assert len(events.Histograms("diagnostics/tanh_1/output")) == len(rows)
    # By its short name, and one that makes no sense.
    bad = makemore(
        "fit", "--trainer.callbacks+=Diagnostics", "--trainer.callbacks.every_n_steps", 0, *options
    )
    assert bad.code == 2
    assert "every_n_steps must be at least 1, not 0" in bad.err


def test_pictures_name_mean_and_deviation() -> None:
    """Of the activations, of their gradients, and of each weight matrix's gradient."""
    snapshot = look_at(BatchNormMLP(27, 3, n_hidden=20, init_seed=1), *random_batch())
    tanh, weight = snapshot.tanhs[0], snapshot.weights[0]
    with style():
        drawn = [
            draw([snapshot])
            for draw in (pictures.activations, pictures.activation_gradients, pictures.weight_gradients)
        ]
    labels = [figure.axes[0].get_legend_handles_labels()[1][0] for figure in drawn]
    mean = f"{tanh.mean:.2f}".replace("-", "−")
    assert labels == [
        f"tanh_1: mean {mean}, std {tanh.std:.2f}, {tanh.saturated:.0%} saturated",
        f"tanh_1: {scientific(tanh.gradient_mean)} ± {scientific(tanh.gradient_std)}",
        f"embedding, 27×10: {scientific(weight.gradient_mean)} ± {scientific(weight.gradient_std)}",
    ]


def test_pictures_show_what_was_measured() -> None:
    """Units at their ends; spreads forward and back; ratios over steps, with the guide at 10^-3."""
    model = BatchNormMLP(27, 3, n_hidden=20, n_layers=2, hidden_gain=9, init_seed=1, norm_output=True)
    snapshot = look_at(model, *random_batch())
    layers = {layer.name: layer for layer in snapshot.layers}
    with style():
        units = pictures.units_at_their_ends(snapshot)
        spreads = pictures.spreads(snapshot)
        updates = pictures.updates(records_with(lambda i: {}))
    for axes, tanh in zip(units.axes, snapshot.tanhs, strict=True):
        shown = axes.images[0].get_array()[..., 3] > 0
        assert shown.tolist() == tanh.at_ends.tolist()
        assert 0 < shown.mean() < 1
    for axes, measured in zip(spreads.axes, ("std", "gradient_std"), strict=True):
        drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        assert drawn == {
            "after Linear": [getattr(layers[name], measured) for name in ("linear_1", "linear_2", "output")],
            "after Linear and BatchNorm": [
                getattr(layers[name], measured) for name in ("norm_1", "norm_2", "output_norm")
            ],
        }
    ratio, guide = updates.axes[0].lines
    assert list(ratio.get_ydata()) == [-3.0] * 40
    assert list(ratio.get_xdata()) == list(range(0, 400, 10))
    assert set(guide.get_ydata()) == {-3.0}


def test_units_are_counted_in_whole_numbers() -> None:
    snapshot = look_at(BatchNormMLP(27, 3, n_hidden=3, init_seed=1), *random_batch())
    with style():
        figure = pictures.units_at_their_ends(snapshot)
        figure.draw_without_rendering()
    assert all(tick == round(tick) for tick in figure.axes[0].get_xticks())


@pytest.mark.parametrize("values", [(1.5, 2.6), (2.1, 2.2), (1e-5, 9e-5), (0.1, 3), (1e-7, 1)])
def test_ticks_of_a_logarithmic_axis_say_where_they_stand(values: tuple[float, float]) -> None:
    with style():
        figure, [axes] = panels_of(1, height=2.9)
        axes.plot(values)
        log_axis(axes, values)
        figure.draw_without_rendering()
    low, high = axes.get_ylim()
    shown = [
        label.get_text()
        for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert len(shown) == len(set(shown)) > 1
    for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
        assert label.get_text() == scientific(tick, 5)


def test_histogram_of_one_value_and_of_values_that_are_no_numbers() -> None:
    assert Histogram.of(torch.zeros(5)).counts.sum() == 5
    assert Histogram.of(torch.tensor([1.0, 2.0, math.nan, math.inf])).counts.sum() == 2
    assert Histogram.of(torch.tensor([math.nan])).counts.sum() == 0


def start_of(**network: Any) -> Record:
    model = BatchNormMLP(27, 3, init_seed=1, **network)
    return Record.of(look_at(model, *random_batch(256)))


FIVE = {"n_layers": 5, "n_hidden": 100, "batch_norm": False}


@pytest.mark.parametrize(
    ("unhealthy", "healthy", "message"),
    [
        ({**FIVE, "hidden_gain": 3}, {**FIVE, "hidden_gain": 5 / 3}, "tanh_1: .* start saturated"),
        ({"init": "normal", "batch_norm": False}, {"init": "normal"}, "tanh_1: .* start saturated"),
        ({**FIVE, "hidden_gain": 0.5}, {**FIVE, "hidden_gain": 1}, "tanh_5: .* activations fade"),
        ({**FIVE, "hidden_gain": 0.5}, {**FIVE, "batch_norm": True}, "tanh_5: .* activations fade"),
    ],
)
def test_findings_at_the_start(unhealthy: dict[str, Any], healthy: dict[str, Any], message: str) -> None:
    assert [
        finding for finding in findings_at_start(start_of(**unhealthy)) if re.match(message, str(finding))
    ]
    assert not findings_at_start(start_of(**healthy))


def records_with(figure: Callable[[int], dict[str, float]], n: int = 40) -> list[Record]:
    healthy = {"tanh_1/dead": 0.0, "linear_1.weight/gradient_mean": 0.0, "linear_1.weight/gradient_std": 0.1}
    ratio = {"linear_1.weight/log10_update_to_data": -3.0}
    return [Record(10 * i, {**healthy, **ratio, **figure(i)}) for i in range(n)]


@pytest.mark.parametrize(
    ("unhealthy", "healthy", "message"),
    [
        (
            lambda step: {"tanh_1/saturated": 0.8},
            lambda step: {"tanh_1/saturated": 0.5 if step > 9 else 0.9},
            "tanh_1: 80% of its outputs are saturated",
        ),
        # Dead to the end, or only for a while.
        (
            lambda step: {"tanh_1/dead": 0.25 if step > 3 else 0.0},
            lambda step: {"tanh_1/dead": 0.25 if step < 9 else 0.0},
            "tanh_1: 25.0% of its units are dead",
        ),
        (
            lambda step: {"linear_1.weight/log10_update_to_data": -5.0},
            lambda step: {"linear_1.weight/log10_update_to_data": -4.0 if step < 30 else -9.0},
            "changes it by 10.-5.0 .* the learning rate is too low",
        ),
        (
            lambda step: {"linear_1.weight/log10_update_to_data": -0.5},
            lambda step: {"linear_1.weight/log10_update_to_data": -2.0 if step > 9 else 0.0},
            "changes it by 10.-0.5 .* the learning rate is too high",
        ),
        (
            lambda step: {"linear_1.weight/gradient_std": 0.0},
            lambda step: {"linear_1.weight/gradient_std": float(step == 39)},
            "linear_1.weight: never gets a gradient",
        ),
    ],
)
def test_findings_over_a_run(
    unhealthy: Callable[[int], dict[str, float]], healthy: Callable[[int], dict[str, float]], message: str
) -> None:
    [finding] = findings_over_run(records_with(unhealthy))
    assert re.search(message, str(finding))
    assert not findings_over_run(records_with(healthy))


def test_first_steps_say_nothing_of_ratios() -> None:
    first = records_with(lambda step: {"linear_1.weight/log10_update_to_data": -8.0}, n=10)
    assert not findings_over_run(first)
    assert not findings_over_run([])


@pytest.mark.parametrize(
    ("network", "lr", "messages"),
    [
        ({"init": "zero", "batch_norm": False, "output_gain": None}, 0.02, ["embedding.weight: never gets"]),
        ({"init": "normal", "batch_norm": False, "output_gain": None}, 0.02, ["tanh_1: .* start saturated"]),
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


def test_warnings_of_the_program_are_one_line_each(short_list: Path, tmp_path: Path) -> None:
    zero = ["--model.init", "zero", "--model.batch_norm", "false", "--model.output_gain", "null"]
    command = [sys.executable, "-m", "makemore_pl", "fit", "--config", "diagnostics", *map(str, QUICK), *zero]
    command += ["--data.path", str(short_list), "--export.enabled", "false"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(r"^makemore: warning: embedding\.weight: never gets", done.stderr, re.MULTILINE)
    assert ".py" not in done.stderr
