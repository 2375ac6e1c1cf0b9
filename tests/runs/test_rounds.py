"""Rounds: where a run is evaluated, saved and ended; and that it can be resumed from each of these places."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers import trainer
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import CheckpointError, RequestError
from makemore_pl.inspect.step_table import read_steps
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runs.checkpointing import RunCheckpoint
from makemore_pl.runs.metrics import METRICS_FILE, MetricsLogger
from makemore_pl.runs.rounds import RunInRounds, RunLength

pytestmark = [  # news that the program drops
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]
OPTIONS = {
    "max_steps": -1,
    "max_epochs": None,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
    "accumulate_grad_batches": 1,
    "limit_train_batches": None,
    "overfit_batches": 0.0,
    "min_epochs": None,
}


def ends(options: Mapping[str, Any], n: int, save_every: int | None = None) -> tuple[list[int], list[int]]:
    """Ends of a run's rounds, with passes of n batches; and those of them that are evaluated."""
    length = RunLength.of({**OPTIONS, **options}, save_every)
    rounds = length.rounds(length.batches_of_pass(n))
    found = list(rounds.after(0))
    return found, [end for end in found if rounds.is_evaluated(end)]


@pytest.mark.parametrize(
    ("options", "n", "evaluated"),
    [
        ({}, 6, [100, 200, 300]),
        ({"max_steps": 250}, 6, [100, 200, 250]),
        ({"max_steps": 7}, 6, [7]),
        ({"max_epochs": 3}, 6, [6, 12, 18]),
        ({"max_epochs": 3, "max_steps": 10}, 6, [6, 10]),
        ({"max_epochs": -1, "max_steps": 10}, 6, [10]),
        ({"max_epochs": 5, "check_val_every_n_epoch": 2}, 6, [12, 24, 30]),
        ({"max_epochs": 2, "val_check_interval": 5}, 6, [5, 10, 12]),
        ({"max_epochs": 2, "val_check_interval": 0.5}, 7, [3, 6, 9, 12, 14]),
        ({"max_epochs": 1, "val_check_interval": 0.01}, 7, [1, 2, 3, 4, 5, 6, 7]),
        ({"max_steps": 20, "val_check_interval": 8, "check_val_every_n_epoch": None}, 6, [8, 16, 20]),
        ({"max_steps": 20, "val_check_interval": 1.0}, 6, [6, 12, 18, 20]),
        ({"max_steps": 250, "accumulate_grad_batches": 3}, 6, [300, 600, 750]),
        ({"max_epochs": 2, "limit_train_batches": 4}, 6, [4, 8]),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 6, [3, 6]),
        ({"max_epochs": 2, "limit_train_batches": 9}, 6, [6, 12]),
        ({"max_epochs": 2, "overfit_batches": 2}, 6, [2, 4]),
    ],
)
def test_where_a_run_is_evaluated(options: dict[str, Any], n: int, evaluated: list[int]) -> None:
    assert ends(options, n) == (evaluated, evaluated)


def test_a_checkpoint_between_evaluations_ends_a_round_too() -> None:
    assert ends({"max_epochs": 2}, 6, save_every=4) == ([4, 6, 8, 12], [6, 12])


def test_an_optimiser_step_ends_with_its_round() -> None:
    length = RunLength.of({**OPTIONS, "max_epochs": 3, "accumulate_grad_batches": 4})
    assert length.rounds(6).n_steps == 3 * 2
    assert RunLength.of({**OPTIONS, "max_steps": 10, "accumulate_grad_batches": 4}).rounds(6).n_steps == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": -1}, "needs an end"),
        ({"val_check_interval": "00:00:10:00"}, "not a time"),
        ({"val_check_interval": 5, "accumulate_grad_batches": 2}, "multiple of"),
        ({"val_check_interval": 5, "check_val_every_n_epoch": 2}, "not both"),
    ],
)
def test_options_that_make_no_run_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        RunLength.of({**OPTIONS, **options})


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory, list_of_all_letters: Path) -> dict[int, Path]:
    """Lists by the number of batches of 100 contexts that a pass over them has."""
    lines = list_of_all_letters.read_text(encoding="utf-8").split()
    folder = tmp_path_factory.mktemp("lists")
    found = {}
    for n_names in (12, 60, 130, 400):
        file = folder / f"{n_names}.txt"
        file.write_text("\n".join(lines[:n_names]), encoding="utf-8")
        found[len(NamesDataModule(str(file), batch_size=100).training_pass())] = file
    assert min(found) == 1
    assert len(found) == 4
    return found


class Stopped(Exception):
    """What a test raises in place of a kill."""


class ConstantRate(LitBatchNormMLP):
    """Of a run's length, only its end depends on it: runs of other lengths are alike up to there."""

    stop_at: int | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.trainer.fit_loop.total_batch_idx == self.stop_at:
            raise Stopped
        return super().training_step(batch, batch_idx)


def fit(
    list_file: Path,
    folder: Path,
    length: RunLength,
    stop_at: int | None = None,
    callbacks: Sequence[Callback] = (),
    module_type: type[ConstantRate] = ConstantRate,
) -> ConstantRate:
    """Train in `folder`, resuming what is there; stop in the given batch."""
    checkpoints = RunCheckpoint(str(folder))
    last = checkpoints.last if checkpoints.last.is_file() else None
    first_step = torch.load(last, weights_only=True)["global_step"] if last else 0
    L.seed_everything(42)
    data = NamesDataModule(str(list_file), batch_size=100)
    module = module_type(data.vocab_size, 3, n_hidden=8, dropout=0.2)
    module.stop_at = stop_at
    fitter = trainer(
        max_epochs=-1,
        accumulate_grad_batches=length.accumulate,
        callbacks=[RunInRounds(length), *callbacks, checkpoints],
        enable_checkpointing=True,
        logger=MetricsLogger(folder, first_step),
        log_every_n_steps=3,
    )
    fitter.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    return module


def expect_same(whole: Path, other: Path) -> None:
    """Weights, optimiser and figures, bit for bit."""
    assert (whole / METRICS_FILE).read_bytes() == (other / METRICS_FILE).read_bytes()
    for name in ("best.ckpt", "last.ckpt"):
        first, second = (torch.load(folder / name, weights_only=True) for folder in (whole, other))
        assert first["global_step"] == second["global_step"]
        assert first["callbacks"] == second["callbacks"]
        for key, value in first["state_dict"].items():
            assert torch.equal(value, second["state_dict"][key]), key
        for a, b in zip(
            first["optimizer_states"][0]["state"].values(),
            second["optimizer_states"][0]["state"].values(),
            strict=True,
        ):
            assert all(torch.equal(a[key], b[key]) for key in a)


lengths = st.builds(
    RunLength,
    steps=st.none() | st.integers(1, 14),
    epochs=st.integers(1, 4),
    evaluate_every=st.sampled_from([2, 4, 10, 1.0, 2.0, 0.5]),
    save_every=st.none() | st.integers(1, 3),
    accumulate=st.sampled_from([1, 1, 2]),
)


class StopsAt(Callback):
    """Asks for the run's end after the first round, as EarlyStopping would."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True


@pytest.mark.parametrize(
    ("least_epochs", "evaluate_every", "steps"),
    [(0, 2, 2), (1, 2, 8), (2, 2, 16), (2, 1.0, 16), (9, 1.0, 32)],
)
def test_least_epochs_are_passes_whatever_a_round_is(
    names: dict[int, Path], tmp_path: Path, least_epochs: int, evaluate_every: float, steps: int
) -> None:
    length = RunLength(None, 4, evaluate_every, least_epochs=least_epochs)
    module = fit(names[8], tmp_path, length, callbacks=[StopsAt()])
    assert module.trainer.global_step == steps


def test_least_epochs_of_a_resumed_run(names: dict[int, Path], tmp_path: Path) -> None:
    length = RunLength(None, 4, 2, least_epochs=2)
    with pytest.raises(Stopped):
        fit(names[8], tmp_path, length, stop_at=11, callbacks=[StopsAt()])
    assert fit(names[8], tmp_path, length, callbacks=[StopsAt()]).trainer.global_step == 16


@pytest.mark.slow
@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(data=st.data(), length=lengths, n=st.integers(0, 3))
def test_a_run_stopped_anywhere_and_resumed_is_as_one_never_stopped(
    data: st.DataObject, length: RunLength, n: int, names: dict[int, Path]
) -> None:
    """Stopped once or twice: by a kill in some batch, or by a length at which it ended before."""
    n_batches = sorted(names)[n]
    total = length.rounds(n_batches).total
    with tempfile.TemporaryDirectory() as place:
        whole, other = Path(place, "whole"), Path(place, "other")
        fit(names[n_batches], whole, length)
        for _ in range(data.draw(st.integers(1, 2), label="stops")):
            if data.draw(st.booleans(), label="killed"):
                stop_at = data.draw(st.integers(0, total - 1), label="batch")
                with contextlib.suppress(Stopped):
                    fit(names[n_batches], other, length, stop_at)
            else:
                # At a multiple of the interval: a shorter run's end is evaluated, wherever it lies.
                ends = [
                    end
                    for end in length.rounds(n_batches).after(0)
                    if length.rounds(n_batches).is_evaluated(end)
                ]
                end = data.draw(st.sampled_from(ends), label="end")
                steps = replace(length.rounds(n_batches), total=end).n_steps
                if length.accumulate == 1:
                    fit(names[n_batches], other, replace(length, steps=steps))
        fit(names[n_batches], other, length)
        expect_same(whole, other)


@pytest.mark.parametrize("n", range(4))
def test_a_run_that_has_ended_anywhere_is_resumed_for_longer(
    n: int, names: dict[int, Path], tmp_path: Path
) -> None:
    """Evaluations then fall where they fall in a longer run; the end of the shorter one is one more."""
    file = names[sorted(names)[n]]
    whole, other = tmp_path / "whole", tmp_path / "other"
    length = RunLength(steps=14, epochs=None, evaluate_every=4)
    fit(file, whole, length)
    for steps in (3, 7, 12):
        fit(file, other, replace(length, steps=steps))
    module = fit(file, other, length)
    assert module.trainer.global_step == 14
    evaluated = [row.step for row in read_steps(other / METRICS_FILE) if "val/nll" in row.figures]
    assert evaluated == [2, 3, 6, 7, 11, 13]
    first, second = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole, other))
    assert all(
        torch.equal(first["state_dict"][key], second["state_dict"][key]) for key in first["state_dict"]
    )


def test_a_checkpoint_of_another_callback_within_a_round_is_refused(
    names: dict[int, Path], tmp_path: Path
) -> None:
    file, length = names[max(names)], RunLength(steps=8, epochs=None, evaluate_every=4)
    within = [ModelCheckpoint(tmp_path, "within", every_n_train_steps=3)]
    fit(file, tmp_path, length, callbacks=within)
    (tmp_path / "within.ckpt").rename(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"within an epoch.*resume from last\.ckpt"):
        fit(file, tmp_path, length, callbacks=within)


def test_a_plateau_seen_in_the_last_round_lowers_the_rate_when_resumed(
    names: dict[int, Path], tmp_path: Path
) -> None:
    class OnPlateau(ConstantRate):
        def configure_optimizers(self) -> OptimizerLRScheduler:  # type: ignore[override]
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/nll"}}

    file, length = names[max(names)], RunLength(steps=12, epochs=None, evaluate_every=2)
    whole, other = tmp_path / "whole", tmp_path / "other"
    rates = [
        fit(file, folder, each, module_type=OnPlateau).trainer.optimizers[0].param_groups[0]["lr"]
        for folder, each in ((whole, length), (other, replace(length, steps=6)), (other, length))
    ]
    assert rates[0] == rates[2] < rates[1]
    expect_same(whole, other)
