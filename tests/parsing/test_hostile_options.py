"""Command lines and configuration files at their limits: one line, exit code 2, nothing written.

Ranges of values are tested beside the classes that check them; here, that commands pass on what those say.
"""

import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers import QUICK, RunCommand

from makemore_pl.data.batch import Batch
from makemore_pl.errors import RequestError
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.parsing.config_files import MAX_BYTES, SHIPPED, find_config

FIT = ["fit", "--data.path", "{list}", *QUICK]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sample", "{run}", "-n", "1e3"], "n must be a whole number, not '1e3'"),
        # Longer than Python reads as a number:
        (["sample", "{run}", "--seed", "1" + "0" * 5_000], "seed must be a whole number"),
        (["sample", "{run}", "--temperature", "nan"], "temperature must be at least 0"),
        (["sample", "{run}", "--temperature", "warm"], "temperature must be a number, not 'warm'"),
        (["sample", "{run}", "--prefix", "Ω"], "does not know 'Ω'"),
        (["sample", "{run}", "--colour"], "--colour"),
        (["sample", "{run}", "--format", "xml"], "xml"),
        (["sample", "{run}", "--prefix", os.fsdecode(b"\xff")], ""),
        (["sample", "{run}", "--match", "("], "no regular expression"),
        (["sample", "{run}", "--novel", "/dev/zero"], "a pipe or a device"),
        (["score", "{run}", "/dev/zero"], "a pipe or a device"),
        (["score", "{run}", "missing"], "o such file"),
        (["export", "missing.ckpt"], "o such file"),
        (["export", "{run}/best.ckpt", "-o", "{run}/best.ckpt"], ""),
        (["export", "{run}/model.onnx"], "not a checkpoint"),
        (["verify", "{run}", "{run}"], ""),
        (["test", "--ckpt_path", "{run}/best.ckpt", "--model.n_hidden", "100"], "best.ckpt"),
        (["predict", "--ckpt_path", "{run}/best.ckpt", "--data.path", "{run}/config.yaml"], ""),
        (["report"], "checkpoint"),
        (["report", "none.ckpt"], "none.ckpt: No such file"),
        (["report", "{run}/best.ckpt", "-o", "."], ". is a folder; a file is needed"),
        (["report", "{run}/best.ckpt", "--list", "none.txt"], "none.txt: No such file"),
        (["report", "{run}/best.ckpt", "--list", "names"], "does not know"),
        (["report", "{run}/best.ckpt", "--seed", "-1"], "seed must be at least 0"),
        (["lr-find", "--plot", "."], ""),
        ([*FIT, "--data.path", "missing.txt"], "missing.txt: No such file"),
        ([*FIT, "--data.path", "."], "Is a directory"),
        ([*FIT, "--data.block_size", "-1"], "data.block_size must be at least 1"),
        ([*FIT, "--data.name_column", "name"], "short.txt, line 1: no column of the name 'name'"),
        ([*FIT, "--data.weight_power", "2"], "weight_power must be from 0 to 1, not 2"),
        ([*FIT, "--model.width", "3"], "width"),
        ([*FIT, "--config", "none.yaml"], "none.yaml"),
        ([*FIT, "--run", "a/b"], "no name for a folder"),
        ([*FIT, "--ckpt_path", "none.ckpt"], "none.ckpt: No such file"),
        ([*FIT, "--ckpt_path", "best"], "no best.ckpt under checkpoints/"),
        ([*FIT, "--data.batch_size", "1"], "a batch of 1"),  # known when BatchNorm and the first batch meet
        ([*FIT, "--model.n_layers", "many"], "n_layers"),
        ([*FIT, "--model.lr", "nan"], "model.lr"),
        ([*FIT, "--seed_everything", "-1"], "seed_everything must be from 0"),
        ([*FIT, "--seed_everything", str(1 << 32)], "seed_everything must be from 0"),
        ([*FIT, "--trainer.precision", "17"], "precision"),
        ([*FIT, "--export.form", "spiral"], "form"),
    ],
    ids=lambda value: " ".join(value[-3:])[:40].encode("ascii", "replace").decode(),
)
def test_commands_refuse_in_one_line(
    makemore: RunCommand,
    run_folder: Path,
    short_list: Path,
    cwd: Path,
    args: list[str],
    message: str,
) -> None:
    before = sorted(run_folder.iterdir())
    result = makemore(*(arg.format(run=run_folder, list=short_list) for arg in args)).fails_with(message)
    assert result.out == ""
    assert len(result.err) < 1_000
    assert list(cwd.iterdir()) == []
    assert sorted(run_folder.iterdir()) == before


@pytest.mark.parametrize(
    "args",
    [
        ["-n", "0"],
        ["--temperature", "1e-320"],
        ["--top-k", str(10**24)],
        ["--min-length", "100"],
        ["--match", ""],
    ],
    ids=" ".join,
)
def test_both_files_accept_extreme_values(makemore: RunCommand, run_folder: Path, args: list[str]) -> None:
    """With the same names, and nothing on standard error but how likely a wish is."""
    made = [
        makemore("sample", run_folder / file, "-n", 5, "--seed", 1, "--max-length", 100, *args)
        for file in ("sampler.onnx", "model.onnx")
    ]
    assert [result.code for result in made] == [0, 0]
    assert all(not result.err or result.err.startswith("wish: probability ") for result in made)
    assert made[0].out == made[1].out
    assert len(made[0].out.splitlines()) == (0 if args == ["-n", "0"] else 5)


def test_fit_accepts_extreme_values(makemore: RunCommand, short_list: Path, cwd: Path) -> None:
    args = ("--data.batch_size", 10**9, "--data.split_seed", 10**30, "--model.init_seed", -1)
    result = makemore("fit", "--data.path", short_list, *QUICK, "--export.enabled", "false", *args)
    assert (result.code, result.err) == (0, "")


def test_a_diverged_training_keeps_the_run_it_was_to_replace(
    makemore: RunCommand, short_list: Path, cwd: Path
) -> None:
    old = Path("checkpoints/mine/best.ckpt")
    old.parent.mkdir(parents=True)
    old.write_text("precious")
    args = ("--run", "mine", "--overwrite", "true", "--model.hidden_gain", "1e300", *QUICK)
    makemore("fit", "--data.path", short_list, *args).fails_with(
        "training has diverged; try a lower model.lr"
    )
    assert [path.name for path in old.parent.iterdir()] == ["best.ckpt"]
    assert old.read_text() == "precious"


def test_nan_weights_are_not_saved(
    makemore: RunCommand, short_list: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint from before stays."""
    train = LitBatchNormMLP.training_step

    def diverge(module: LitBatchNormMLP, batch: Batch, batch_idx: int) -> torch.Tensor:
        if module.global_step == 15:
            module.net.get_parameter("layers.output.weight").data[0] = torch.nan
        return train(module, batch, batch_idx)

    monkeypatch.setattr(LitBatchNormMLP, "training_step", diverge)
    makemore("fit", "--data.path", short_list, *QUICK, "--run", "mine", "--data.batch_size", 50).fails_with(
        "training has diverged"
    )
    last = torch.load("checkpoints/mine/last.ckpt", weights_only=True)
    assert 0 < last["global_step"] <= 15
    assert all(value.isfinite().all() for value in last["state_dict"].values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "sections such as data, model and trainer are expected"),
        (b"# only a comment\n", "sections such as data"),
        (b"\xff\xfe", "not YAML in UTF-8"),
        (b"{{{{", "not YAML"),
        (b"data:\n  path: a\x07b\n", "not YAML"),
        (
            b"data: !!python/object/apply:os.system ['touch code-has-run']",
            "could not determine a constructor",
        ),
        (b"[" * 3_000, "recursion"),
        (b"#" * (MAX_BYTES + 1), "at most"),
        (b"data: 5", "data must be a section of options, not '5'"),
        (b"model: [1]", "model must be a section of options"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_files_that_are_no_configuration(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(RequestError, match=message):
        find_config(str(tmp_path / "bad.yaml"))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"trainer: {logger: {class_path: os.system, init_args: {command: touch code}}}", "trainer.logger"),
        (b"network: {width: 3}", "network"),
        (b"model: {n_hidden: {a: 1}}", "n_hidden"),
        (b"model: {n_layers: -1}", "model.n_layers must be at least 1"),
    ],
    ids=str,
)
def test_configurations_with_bad_options(
    makemore: RunCommand, cwd: Path, content: bytes, message: str
) -> None:
    Path("bad.yaml").write_bytes(content)
    for option in (("--config", "bad.yaml"), ("--config=bad.yaml",)):
        makemore("fit", *option).fails_with(message)
    assert [path.name for path in cwd.iterdir()] == ["bad.yaml"]


def test_configurations_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, message in (
        (tmp_path / "pipe.yaml", "a pipe or a device"),
        (tmp_path, "Is a directory"),
        ("none.yaml", "o such file"),
    ):
        with pytest.raises(RequestError, match=message):
            find_config(str(name))


def test_a_file_here_wins_over_a_shipped_config(cwd: Path) -> None:
    assert find_config("deep") == str(SHIPPED / "deep.yaml")
    Path("deep").write_text("model: {n_hidden: 7}")
    assert find_config("deep") == "deep"


def test_a_checkpoint_named_in_a_config_is_checked_as_any(
    makemore: RunCommand, run_folder: Path, short_list: Path, cwd: Path
) -> None:
    configs = ("--config", run_folder / "config.yaml", "--config", "resume.yaml")
    fit = ("fit", *configs, "--trainer.max_epochs", 4)
    refused = {short_list: "not a checkpoint", "none.ckpt": "o such file", "last": "no last.ckpt"}
    for path, message in refused.items():
        Path("resume.yaml").write_text(f"ckpt_path: {path}\nrun: null\n")
        makemore(*fit).fails_with(message)
    shutil.copytree(run_folder, "checkpoints/short")
    before = len(Path("checkpoints/short/metrics.csv").read_text().splitlines())
    makemore(*fit).succeeds()
    assert len(Path("checkpoints/short/metrics.csv").read_text().splitlines()) > before
    assert [path.name for path in Path("checkpoints").iterdir()] == ["short"]
