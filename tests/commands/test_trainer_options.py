"""Lightning's options and callbacks in `makemore fit`: they work, or one line says why not."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from helpers import RunCommand, assert_one_line_error

from makemore_pl.export.export import verify_file
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runs.checkpoint import read_checkpoint

Fit = Callable[..., Any]
ONE_LINE = "one line"

VALUES: dict[str, list[tuple[object, str | None]]] = {
    "accelerator": [("cpu", None), ("nosuch", "invalid accelerator")],
    "strategy": [
        ("auto", None),
        # "ddp" in tests/runs/test_distributed.py: its process group would outlive the test.
        ("ddp_spawn", "hand nothing back"),
        ("ddp_fork", "hand nothing back"),
        ("ddp_notebook", "hand nothing back"),
        ("nosuch", "invalid strategy"),
        ("deepspeed", "DeepSpeed"),
    ],
    "devices": [(1, None), (0, "devices"), ("auto", None)],
    "num_nodes": [(1, None), (2, "start each by torchrun")],
    "precision": [
        (precision, None)
        for precision in ("64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed")
    ],
    "logger": [("false", None), ("true", None)],
    "callbacks": [],  # below, one by one
    "fast_dev_run": [("true", None), (2, None)],
    "max_epochs": [(2, None), (0, "at least 1"), (-1, None), (-2, "at least 1")],
    "min_epochs": [(1, None), (50, None)],
    "max_steps": [(7, None), (0, "at least 1"), (-2, "at least 1")],
    "min_steps": [(3, None), (50, None)],
    "max_time": [("00:01:00:00", None), ("soon", ONE_LINE)],
    "limit_train_batches": [(2, None), (0.5, None), (0, "above 0")],
    "limit_val_batches": [(0, None), (1, None), (0.001, "limit_val_batches")],
    "limit_test_batches": [(1, None)],
    "limit_predict_batches": [(1, None)],
    "overfit_batches": [(1, None)],
    "val_check_interval": [
        (3, None),
        (0.5, None),
        (100, None),
        ("00:00:00:10", "not a time"),
        (0, "above 0"),
    ],
    "check_val_every_n_epoch": [(2, None), (1000, None), ("null", None), (0, "at least 1")],
    "num_sanity_val_steps": [(2, None)],
    "log_every_n_steps": [(1, None), (0, None), (-1, "at least 0")],
    "enable_checkpointing": [("true", None), ("false", "leaves nothing")],
    "enable_progress_bar": [("true", None), ("false", None)],
    "enable_model_summary": [("true", None), ("false", None)],
    "enable_autolog_hparams": [("false", None)],
    "accumulate_grad_batches": [(2, None), (0, "at least 1")],
    "gradient_clip_val": [(0.5, None), (-1, "at least 0")],
    "gradient_clip_algorithm": [("value", None), ("nosuch", ONE_LINE)],
    "deterministic": [("true", None), ("warn", None)],
    "benchmark": [("true", None)],
    "inference_mode": [("false", None)],
    "use_distributed_sampler": [("false", None)],
    "profiler": [("simple", None), ("nosuch", ONE_LINE)],
    "detect_anomaly": [("true", None)],
    "barebones": [("true", "what a run is for"), ("false", None)],
    "plugins": [("null", None)],
    "sync_batchnorm": [("true", None)],
    "reload_dataloaders_every_n_epochs": [(1, None)],
    "default_root_dir": [("elsewhere", None), ("s3://bucket/runs", "local folders")],
    "model_registry": [("null", None)],
}
"""Values of each option of the Trainer; of those that are refused, part of what is said."""
PAIRS = [
    {"precision": "bf16-mixed", "gradient_clip_val": 1},
    {"precision": "16-mixed", "gradient_clip_val": 1},
    {"precision": "64-true", "accumulate_grad_batches": 2},
    {"accumulate_grad_batches": 2, "max_epochs": 2},
    {"accumulate_grad_batches": 3, "limit_train_batches": 2, "max_epochs": 2},
    {"max_epochs": 2, "val_check_interval": 3},
    {"max_epochs": 3, "check_val_every_n_epoch": 2},
    {"max_epochs": 2, "max_steps": 3},
    {"max_time": "00:01:00:00", "max_epochs": 2},
    {"overfit_batches": 1, "max_epochs": 2},
    {"overfit_batches": 1, "val_check_interval": 2},
    {"limit_val_batches": 0, "check_val_every_n_epoch": 2},
    {"fast_dev_run": "true", "precision": "bf16-true"},
    {"fast_dev_run": "true", "logger": "false"},
    {"reload_dataloaders_every_n_epochs": 1, "val_check_interval": 2},
    {"deterministic": "true", "precision": "bf16-mixed"},
]
"""Options that meet in one mechanism."""

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice, which the program shows in one line


@pytest.fixture
def fit(makemore: RunCommand, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """`makemore fit` of some steps, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object, **trainer: object) -> Any:
        if not {"max_steps", "max_epochs"} & trainer.keys() and "--ckpt_path" not in args:
            trainer["max_steps"] = 6
        options = [f"--trainer.{name}={value}" for name, value in trainer.items()]
        small = ["--data.path", short_list, "--data.batch_size", 150, "--model.n_hidden", 8, "--run", "x"]
        return makemore("fit", *small, "--export.enabled", "false", *options, *args)

    return run


def test_every_option_of_the_trainer_is_tried() -> None:
    assert VALUES.keys() == inspect.signature(L.Trainer).parameters.keys()


@pytest.mark.parametrize(
    ("name", "value", "refused"), [(name, *case) for name, cases in VALUES.items() for case in cases]
)
def test_an_option_works_or_one_line_says_why_not(
    fit: Fit, tmp_path: Path, name: str, value: object, refused: str | None
) -> None:
    trainer = {"accelerator": "cpu", name: value}
    if (name, value) == ("max_epochs", -1):
        trainer["max_steps"] = 6
    result = fit(**trainer)
    if refused is None:
        assert result.code == 0, result.err
        assert "NLL: " in result.out or name == "fast_dev_run"
    else:
        assert result.code == 2, result.err
        assert_one_line_error(result.err, "" if refused is ONE_LINE else refused)
        assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.parametrize("trainer", PAIRS, ids=" ".join)
def test_options_that_meet_in_one_mechanism(fit: Fit, trainer: dict[str, object]) -> None:
    result = fit(accelerator="cpu", **trainer)
    assert result.code == 0, result.err


CALLBACKS: dict[str, tuple[dict[str, object], str | None]] = {
    "BackboneFinetuning": ({}, "no attribute 'backbone'"),
    "BatchSizeFinder": ({}, "find one beforehand"),
    "DeviceStatsMonitor": ({}, "psutil"),
    "EarlyStopping": ({"monitor": "val/nll"}, None),
    "EMAWeightAveraging": ({}, None),
    "GradientAccumulationScheduler": ({"scheduling": '{"0": 1, "1": 2}'}, None),
    "LambdaCallback": ({}, None),
    "LearningRateFinder": ({"num_training_steps": 20}, None),
    "LearningRateMonitor": ({}, None),
    "ModelCheckpoint": ({"monitor": "val/nll", "mode": "max", "filename": "worst"}, None),
    "ModelPruning": ({"pruning_fn": "l1_unstructured", "amount": 0.2}, None),
    "ModelSummary": ({}, None),
    "OnExceptionCheckpoint": ({"dirpath": "failed"}, None),
    "RichModelSummary": ({}, None),
    "RichProgressBar": ({}, None),
    "StochasticWeightAveraging": ({"swa_lrs": 0.01}, None),
    "Timer": ({"duration": "00:01:00:00"}, None),
    "TQDMProgressBar": ({}, None),
    "WeightAveraging": ({}, None),
}
"""Lightning's callbacks, their options, and of those that are refused part of what is said."""


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_works_and_its_configuration_reads_back(fit: Fit, makemore: RunCommand, name: str) -> None:
    if name == "DeviceStatsMonitor":
        try:
            import psutil  # noqa: F401

            pytest.skip("psutil is installed: nothing is missing")
        except ModuleNotFoundError:
            pass
    options, refused = CALLBACKS[name]
    arguments = [f"--trainer.callbacks={name}"]
    arguments += [f"--trainer.callbacks.{option}={value}" for option, value in options.items()]
    result = fit(*arguments, max_steps=12, val_check_interval=3)
    if refused is not None:
        assert result.code == 2
        assert_one_line_error(result.err, refused)
        return
    assert result.code == 0, result.err
    config = Path("checkpoints/x/config.yaml")
    again = makemore("fit", "--config", config, "--run", "y")
    assert again.code == 0, again.err
    first, second = (yaml.safe_load(Path("checkpoints", run, "config.yaml").read_text()) for run in "xy")
    assert {**first, "run": "y"} == second
    weights = [read_checkpoint(f"checkpoints/{run}/last.ckpt").weights for run in "xy"]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_best_checkpoint_is_exported_whatever_other_callbacks_save(fit: Fit) -> None:
    worst = ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.mode=max"]
    result = fit(
        *worst,
        "--trainer.callbacks.monitor=val/nll",
        "--export.enabled=true",
        max_steps=9,
        val_check_interval=3,
    )
    assert result.code == 0, result.err
    best = read_checkpoint("checkpoints/x/best.ckpt")
    assert "model:  checkpoints/x/model.onnx" in result.out
    assert verify_file("checkpoints/x/model.onnx", best.path).largest < 1e-4


def test_a_run_that_was_never_evaluated_is_tested_and_exported_as_it_ended(fit: Fit) -> None:
    result = fit("--export.enabled=true", limit_val_batches=0)
    assert result.code == 0, result.err
    assert " dev," not in result.out
    assert Path("checkpoints/x/model.onnx").is_file()


def test_what_is_replaced_goes_only_when_something_better_stands(fit: Fit) -> None:
    assert fit().code == 0
    before = Path("checkpoints/x/best.ckpt").read_bytes()
    for trainer in ({"fast_dev_run": "true"}, {"max_steps": 0}, {"precision": "nosuch"}):
        fit("--overwrite", "true", **trainer)
        assert Path("checkpoints/x/best.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model.lr", 0.5),
        ("model.weight_decay", 0.1),
        ("model.beta2", 0.9),
        ("model.warmup", 0.1),
        ("model.n_hidden", 9),
        ("model.dropout", 0.5),
        ("data.split_seed", 7),
        ("data.batch_size", 99),
        ("data.block_size", 4),
        ("optimizer", "SGD"),
    ],
)
def test_a_resumed_run_refuses_what_it_cannot_take_up(fit: Fit, option: str, value: object) -> None:
    assert fit().code == 0
    before = Path("checkpoints/x/last.ckpt").read_bytes()
    result = fit("--ckpt_path", "last", f"--{option}={value}", max_steps=12)
    assert result.code == 2
    assert_one_line_error(result.err, option)
    assert Path("checkpoints/x/last.ckpt").read_bytes() == before


def test_a_resumed_run_refuses_another_list_and_takes_the_same_elsewhere(fit: Fit, short_list: Path) -> None:
    assert fit().code == 0
    names = short_list.read_text(encoding="utf-8")
    Path("fewer.txt").write_text(names.partition("\n")[2], encoding="utf-8")
    Path("same.txt").write_text(names, encoding="utf-8")
    result = fit("--ckpt_path", "last", "--data.path", "fewer.txt", max_steps=12)
    assert_one_line_error(result.err, "data.path: fewer is not the list")
    assert fit("--ckpt_path", "last", "--data.path", "same.txt", max_steps=12).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr_scheduler=StepLR", "--lr_scheduler.step_size=3"], "give --optimizer"),
        (["--optimizer=SGD", "--optimizer.lr=0.1", "--model.lr=0.2"], "model.lr belongs to"),
        (["--optimizer=SGD", "--optimizer.lr=0.1", "--model.weight_decay=0.2"], "model.weight_decay belongs"),
        (["--resume=auto", "--ckpt_path=last"], "--resume auto"),
        (["--checkpoint.dirpath=memory://x"], "local folders"),
        (["--checkpoint.monitor=nosuch"], "there are: "),
    ],
)
def test_options_without_effect_are_refused(fit: Fit, arguments: list[str], message: str) -> None:
    result = fit(*arguments)
    assert result.code == 2
    assert_one_line_error(result.err, message)


def test_a_run_without_a_step_is_no_success(fit: Fit, tmp_path: Path) -> None:
    result = fit(max_time="00:00:00:00")
    assert result.code == 2
    assert_one_line_error(result.err, "no step was trained")
    assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.parametrize("length", [{"max_steps": 12}, {"max_epochs": 3}])
def test_a_plateau_scheduler_works_however_the_length_is_given(fit: Fit, length: dict[str, object]) -> None:
    plateau = ["--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=val/nll"]
    result = fit("--optimizer=SGD", "--optimizer.lr=0.1", *plateau, **length)
    assert result.code == 0, result.err


def test_resume_auto_begins_and_resumes_by_the_same_command(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    command: dict[str, object] = {"max_steps": 12, "val_check_interval": 3}
    assert fit(**command).code == 0
    whole = read_checkpoint("checkpoints/x/last.ckpt").weights
    Path("checkpoints/x").rename("whole")
    step = LitBatchNormMLP.training_step

    def fails_at_7(module: LitBatchNormMLP, *args: Any) -> torch.Tensor:
        if module.global_step == 7:
            raise OSError("the machine is taken away")
        return step(module, *args)

    with monkeypatch.context() as context:
        context.setattr(LitBatchNormMLP, "training_step", fails_at_7)
        assert fit("--resume", "auto", **command).code == 2
    assert read_checkpoint("checkpoints/x/last.ckpt").global_step == 6
    assert fit("--resume", "auto", **command).code == 0
    weights = read_checkpoint("checkpoints/x/last.ckpt").weights
    assert all(torch.equal(weights[key], whole[key]) for key in whole)
