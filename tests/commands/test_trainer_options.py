"""Lightning's options and callbacks in `makemore fit`: they work, or one line says why not."""

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from helpers import RunCommand

from makemore_pl.export.export import verify_file
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runs.checkpoint import read_checkpoint

Fit = Callable[..., Any]

REFUSED: list[tuple[str, object, str]] = [
    ("accelerator", "nosuch", "invalid accelerator"),
    ("strategy", "ddp_spawn", "hand nothing back"),
    ("strategy", "ddp_fork", "hand nothing back"),
    ("strategy", "ddp_notebook", "hand nothing back"),
    ("strategy", "nosuch", "invalid strategy"),
    ("strategy", "deepspeed", "DeepSpeed"),
    ("devices", 0, "devices"),
    ("num_nodes", 2, "start each by torchrun"),
    ("max_epochs", 0, "at least 1"),
    ("max_epochs", -2, "at least 1"),
    ("max_steps", 0, "at least 1"),
    ("max_steps", -2, "at least 1"),
    ("max_time", "soon", ""),
    ("limit_train_batches", 0, "above 0"),
    ("limit_val_batches", 0.001, "limit_val_batches"),
    ("val_check_interval", "00:00:00:10", "not a time"),
    ("val_check_interval", 0, "above 0"),
    ("check_val_every_n_epoch", 0, "at least 1"),
    ("log_every_n_steps", -1, "at least 0"),
    ("enable_checkpointing", "false", "leaves nothing"),
    ("accumulate_grad_batches", 0, "at least 1"),
    ("gradient_clip_val", -1, "at least 0"),
    ("gradient_clip_algorithm", "nosuch", ""),
    ("profiler", "nosuch", ""),
    ("barebones", "true", "what a run is for"),
    ("default_root_dir", "s3://bucket/runs", "local folders"),
]
"""Options of the Trainer, values that are refused, and part of what is said."""
RUNS: list[dict[str, object]] = [
    # "ddp" in tests/runs/test_distributed.py: its process group would outlive the test.
    {"precision": "64-true", "accumulate_grad_batches": 2, "max_epochs": 2, "min_epochs": 1, "devices": 1}
    | {"num_nodes": 1, "strategy": "auto", "num_sanity_val_steps": 2, "log_every_n_steps": 1}
    | {"enable_progress_bar": "true", "profiler": "simple"},
    {"precision": "bf16-mixed", "gradient_clip_val": 1, "deterministic": "true", "devices": "auto"}
    | {"logger": "true", "limit_val_batches": 1, "limit_test_batches": 1, "enable_model_summary": "true"},
    {"precision": "16-mixed", "gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"}
    | {"max_epochs": 2, "val_check_interval": 3, "enable_progress_bar": "false", "log_every_n_steps": 0},
    {"precision": "16-true", "accumulate_grad_batches": 3, "limit_train_batches": 2, "max_epochs": 2}
    | {"logger": "false", "enable_checkpointing": "true"},
    {"precision": "bf16-true", "max_epochs": 3, "check_val_every_n_epoch": 2, "limit_train_batches": 0.5}
    | {"inference_mode": "false", "use_distributed_sampler": "false", "enable_model_summary": "false"},
    {"precision": "32-true", "max_epochs": 2, "max_steps": 3, "max_time": "00:01:00:00"}
    | {"benchmark": "true", "detect_anomaly": "true", "sync_batchnorm": "true", "barebones": "false"}
    | {"default_root_dir": "elsewhere", "enable_autolog_hparams": "false"}
    | {"plugins": "null", "model_registry": "null"},
    {"overfit_batches": 1, "max_epochs": 2, "limit_predict_batches": 1},
    {"overfit_batches": 1, "val_check_interval": 2, "min_steps": 3},
    {"limit_val_batches": 0, "check_val_every_n_epoch": 2, "min_steps": 50},
    {"max_epochs": -1, "max_steps": 7, "min_epochs": 50, "check_val_every_n_epoch": 1000},
    {"val_check_interval": 0.5, "deterministic": "warn"},
    {"val_check_interval": 100, "check_val_every_n_epoch": "null"},
    {"reload_dataloaders_every_n_epochs": 1, "val_check_interval": 2},
    {"fast_dev_run": "true", "precision": "bf16-true"},
    {"fast_dev_run": 2, "logger": "false"},
]
"""Options that work, those together that meet in one mechanism."""

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice, which the program shows in one line


@pytest.fixture
def fit(makemore: RunCommand, short_list: Path, cwd: Path) -> Fit:
    """`makemore fit` of some steps, in a folder of its own."""

    def run(*args: object, **trainer: object) -> Any:
        if not {"max_steps", "max_epochs"} & trainer.keys() and "--ckpt_path" not in args:
            trainer["max_steps"] = 6
        options = [f"--trainer.{name}={value}" for name, value in trainer.items()]
        small = ["--data.path", short_list, "--data.batch_size", 150, "--model.n_hidden", 8, "--run", "x"]
        return makemore("fit", *small, "--export.enabled", "false", *options, *args)

    return run


def test_every_option_of_the_trainer_is_tried() -> None:
    tried = {name for run in RUNS for name in run} | {name for name, _, _ in REFUSED}
    assert tried | {"callbacks"} == inspect.signature(L.Trainer).parameters.keys()


@pytest.mark.parametrize("trainer", RUNS, ids=lambda trainer: " ".join(list(trainer)[:2]))
def test_options_that_work(fit: Fit, trainer: dict[str, object]) -> None:
    result = fit(accelerator="cpu", **trainer).succeeds()
    assert ("NLL: " in result.out) == ("fast_dev_run" not in trainer)


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_one_line_says_why_an_option_does_not_work(
    fit: Fit, cwd: Path, name: str, value: object, message: str
) -> None:
    fit(**{"accelerator": "cpu", name: value}).fails_with(message)
    assert not list(cwd.glob("checkpoints/*"))


CALLBACKS: list[dict[str, dict[str, object]]] = [
    {
        "EarlyStopping": {"monitor": "val/nll"},
        "EMAWeightAveraging": {},
        "LambdaCallback": {},
        "LearningRateMonitor": {},
        "RichModelSummary": {},
        "RichProgressBar": {},
        "Timer": {"duration": "00:01:00:00"},
    },
    {
        "ModelCheckpoint": {"monitor": "val/nll", "mode": "max", "filename": "worst"},
        "ModelSummary": {},
        "OnExceptionCheckpoint": {"dirpath": "failed"},
        "TQDMProgressBar": {},
        "WeightAveraging": {},
    },
    {
        "GradientAccumulationScheduler": {"scheduling": '{"0": 1, "1": 2}'},
        "ModelPruning": {"pruning_fn": "l1_unstructured", "amount": 0.2},
    },
    {"StochasticWeightAveraging": {"swa_lrs": 0.01}},
    {"LearningRateFinder": {"num_training_steps": 20}},
]
"""Lightning's callbacks that work, and their options."""


def given(callbacks: dict[str, dict[str, object]]) -> list[str]:
    """As on the command line."""
    arguments = []
    for name, options in callbacks.items():
        arguments.append(f"--trainer.callbacks+={name}")
        arguments += [f"--trainer.callbacks.{option}={value}" for option, value in options.items()]
    return arguments


@pytest.mark.parametrize("callbacks", CALLBACKS, ids=lambda callbacks: next(iter(callbacks)))
def test_callbacks_work_and_their_configuration_reads_back(
    fit: Fit, makemore: RunCommand, callbacks: dict[str, dict[str, object]]
) -> None:
    fit(*given(callbacks), max_steps=12, val_check_interval=3).succeeds()
    makemore("fit", "--config", "checkpoints/x/config.yaml", "--run", "y").succeeds()
    first, second = (yaml.safe_load(Path("checkpoints", run, "config.yaml").read_text()) for run in "xy")
    assert {**first, "run": "y"} == second
    weights = [read_checkpoint(f"checkpoints/{run}/last.ckpt").weights for run in "xy"]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("BackboneFinetuning", "no attribute 'backbone'"),
        ("BatchSizeFinder", "find one beforehand"),
        ("DeviceStatsMonitor", "psutil"),
    ],
)
def test_one_line_says_why_a_callback_does_not_work(fit: Fit, name: str, message: str) -> None:
    if message == "psutil" and find_spec("psutil"):
        pytest.skip("psutil is installed: nothing is missing")
    fit(*given({name: {}}), max_steps=12, val_check_interval=3).fails_with(message)


def test_the_best_checkpoint_is_exported_whatever_other_callbacks_save(fit: Fit) -> None:
    worst = ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.mode=max"]
    result = fit(
        *worst,
        "--trainer.callbacks.monitor=val/nll",
        "--export.enabled=true",
        max_steps=9,
        val_check_interval=3,
    ).succeeds()
    best = read_checkpoint("checkpoints/x/best.ckpt")
    assert "model:  checkpoints/x/model.onnx" in result.out
    assert verify_file("checkpoints/x/model.onnx", best.path).largest < 1e-4


def test_a_run_that_was_never_evaluated_is_tested_and_exported_as_it_ended(fit: Fit) -> None:
    result = fit("--export.enabled=true", limit_val_batches=0).succeeds()
    assert " dev," not in result.out
    assert Path("checkpoints/x/model.onnx").is_file()


def test_what_is_replaced_goes_only_when_something_better_stands(fit: Fit) -> None:
    fit().succeeds()
    before = Path("checkpoints/x/best.ckpt").read_bytes()
    for trainer in ({"fast_dev_run": "true"}, {"max_steps": 0}, {"precision": "nosuch"}):
        fit("--overwrite", "true", **trainer)
        assert Path("checkpoints/x/best.ckpt").read_bytes() == before


def test_a_resumed_run_refuses_what_it_cannot_take_up(fit: Fit, short_list: Path) -> None:
    fit().succeeds()
    before = Path("checkpoints/x/last.ckpt").read_bytes()
    names = short_list.read_text(encoding="utf-8")
    Path("fewer.txt").write_text(names.partition("\n")[2], encoding="utf-8")
    for option, value, message in (
        ("model.lr", 0.5, "model.lr"),
        ("model.weight_decay", 0.1, "model.weight_decay"),
        ("model.beta2", 0.9, "model.beta2"),
        ("model.warmup", 0.1, "model.warmup"),
        ("model.n_hidden", 9, "model.n_hidden"),
        ("model.dropout", 0.5, "model.dropout"),
        ("data.split_seed", 7, "data.split_seed"),
        ("data.batch_size", 99, "data.batch_size"),
        ("data.block_size", 4, "data.block_size"),
        ("optimizer", "SGD", "optimizer"),
        ("data.path", "fewer.txt", "data.path: fewer is not the list"),
    ):
        fit("--ckpt_path", "last", f"--{option}={value}", max_steps=12).fails_with(message)
        assert Path("checkpoints/x/last.ckpt").read_bytes() == before
    Path("same.txt").write_text(names, encoding="utf-8")
    fit("--ckpt_path", "last", "--data.path", "same.txt", max_steps=12).succeeds()


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
    fit(*arguments).fails_with(message)


def test_a_run_without_a_step_is_no_success(fit: Fit, tmp_path: Path) -> None:
    fit(max_time="00:00:00:00").fails_with("no step was trained")
    assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.parametrize("length", [{"max_steps": 12}, {"max_epochs": 3}])
def test_a_plateau_scheduler_works_however_the_length_is_given(fit: Fit, length: dict[str, object]) -> None:
    plateau = ["--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=val/nll"]
    fit("--optimizer=SGD", "--optimizer.lr=0.1", *plateau, **length).succeeds()


def test_resume_auto_begins_and_resumes_by_the_same_command(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    command: dict[str, object] = {"max_steps": 12, "val_check_interval": 3}
    fit(**command).succeeds()
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
    fit("--resume", "auto", **command).succeeds()
    weights = read_checkpoint("checkpoints/x/last.ckpt").weights
    assert all(torch.equal(weights[key], whole[key]) for key in whole)
