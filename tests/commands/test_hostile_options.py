"""Command lines and configuration files at their edges: one line, exit code 2, nothing written."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers import QUICK, RunCommand, assert_one_line_error

from makemore_pl.commands import config_files as configs
from makemore_pl.data.batches import Batch
from makemore_pl.model.module import LitBatchNormMLP

HUGE = 10**9
BIG_SEED = "1" + "0" * 5_000
"""Longer than Python reads as a number."""

REFUSED_BY_SAMPLE = [
    *(["-n", value] for value in ("-1", "nan", "inf", "1e3", "", "1.5")),
    *(["--seed", value] for value in ("-1", "nan", "", BIG_SEED)),
    *(["--temperature", value] for value in ("-1", "nan", "inf", "1e308", "")),
    *(["--top-k", value] for value in ("-1", "nan", "", "2.5")),
    *(["--top-p", value] for value in ("0", "-1", "nan", "inf", "1.1", "")),
    *(["--min-length", value] for value in ("-1", str(HUGE), "nan", "")),
    *(["--max-length", value] for value in ("0", "-1", str(HUGE), "nan", "")),
    ["--min-length", "5", "--max-length", "4"],
    ["--prefix", "a" * 10_001],
    ["--prefix", os.fsdecode(b"\xff")],
    ["--match", "("],
    ["--match", "a{99999999999}"],
    ["--match", "(" * 5_000 + ")" * 5_000],
    ["--novel", "/dev/zero"],
    ["--novel", "."],
    ["-n", str(10**15), "--unique"],
    ["--n", "3"],
]


@pytest.mark.parametrize("args", REFUSED_BY_SAMPLE, ids=lambda args: " ".join(args)[:40])
def test_sample_at_its_edges(makemore: RunCommand, run_folder: Path, args: list[str]) -> None:
    result = makemore("sample", run_folder, *args)
    assert result.code == 2
    assert result.out == ""
    assert_one_line_error(result.err, "")
    assert len(result.err) < 1_000


ACCEPTED_BY_SAMPLE = [
    ["-n", "0"],
    ["--seed", "0"],
    ["--seed", "1" + "0" * 400],
    ["--temperature", "0"],
    ["--temperature", "-0.0"],
    ["--temperature", "1e-320"],
    ["--temperature", "1e30"],
    ["--top-k", "0"],
    ["--top-k", str(10**24)],
    ["--top-p", "1e-300"],
    ["--top-p", "1"],
    ["--min-length", "0"],
    ["--min-length", "100", "--max-length", "100"],
    ["--max-length", "1"],
    ["--prefix", ""],
    ["--match", ""],
    ["--novel", "/dev/null"],
]


@pytest.mark.parametrize("args", ACCEPTED_BY_SAMPLE, ids=" ".join)
def test_sample_within_its_edges(makemore: RunCommand, run_folder: Path, args: list[str]) -> None:
    """Accepted: no warning, and the same names from both files."""
    if args[0] == "--novel":
        Path("/dev/null").exists() or pytest.skip("no /dev/null")
        args = ["--novel", str(run_folder / "config.yaml")]
    command = ("sample", run_folder / "sampler.onnx", "-n", 5, "--seed", 1, *args)
    result = makemore(*command)
    assert (result.code, result.err) == (0, "")
    assert makemore("sample", run_folder / "model.onnx", *command[2:]).out == result.out
    assert len(result.out.splitlines()) == (0 if args == ["-n", "0"] else 5)


@pytest.mark.parametrize(
    "args",
    [["/dev/zero"], ["."], ["missing"], ["a", "b"], ["--sort", "--format", "xml"], [os.fsdecode(b"\xff")]],
    ids=lambda args: " ".join(args).encode("utf-8", "replace").decode(),
)
def test_score_at_its_edges(makemore: RunCommand, run_folder: Path, args: list[str]) -> None:
    result = makemore("score", run_folder, *args)
    assert result.code == 2
    assert result.out == ""
    assert_one_line_error(result.err, "")


def test_score_of_any_bytes(makemore: RunCommand, run_folder: Path, tmp_path: Path) -> None:
    for content in (b"\xff\xfe", b"a\x00b\n", b"\xef\xbb\xbf", b"\r\r\r", b"\n" * 1_000, bytes(range(128))):
        (tmp_path / "list").write_bytes(content)
        result = makemore("score", run_folder, tmp_path / "list")
        assert result.code == (2 if b"\xff\xfe" in content else 0)
        assert len(result.err.splitlines()) == (1 if result.code else 0)


REFUSED_BY_FIT: list[tuple[str, list[object]]] = [
    ("data.block_size", [0, -1, HUGE, "nan", "", 2.5]),
    ("data.batch_size", [0, -1, 1, "nan", ""]),
    ("data.eval_batch_size", [0, -1, "inf"]),
    ("data.split_seed", ["nan", "", 1.5]),
    ("data.characters", ["ab"]),
    ("model.n_embd", [0, -1, HUGE, "nan"]),
    ("model.n_hidden", [0, -1, HUGE, ""]),
    ("model.n_layers", [0, -1, HUGE, "many"]),
    ("model.momentum", [0, -1, 1.1, "nan", "inf"]),
    ("model.dropout", [-0.1, 1, HUGE, "nan"]),
    ("model.lr", [0, -1, "nan", "inf"]),
    ("model.warmup", [0, 1, "nan"]),
    ("model.weight_decay", [-1, "nan", "inf"]),
    ("model.beta2", [-0.1, 1, "nan"]),
    ("model.label_smoothing", [-0.1, 1, "nan"]),
    ("model.init", ["magic"]),
    ("model.hidden_gain", ["nan", 1e300]),
    ("model.output_gain", ["inf", "nan"]),
    ("model.init_seed", [10**30, -(10**30), "nan"]),
    ("model.batch_norm", ["maybe"]),
    ("seed_everything", [-1, 1 << 32, 10**30, "nan", ""]),
    ("trainer.max_epochs", [-2, "nan", 1.5]),
    ("trainer.max_steps", [-2, "nan"]),
    ("trainer.max_time", ["never"]),
    ("trainer.accumulate_grad_batches", [0, -1]),
    ("trainer.check_val_every_n_epoch", [0, -1]),
    ("trainer.val_check_interval", [0, -1, 0.0]),
    ("trainer.gradient_clip_val", [-1, "nan"]),
    ("trainer.limit_train_batches", [-1, "nan"]),
    ("trainer.log_every_n_steps", [-1]),
    ("trainer.num_nodes", [0, -1]),
    ("trainer.devices", [0, -1, HUGE]),
    ("trainer.precision", [17]),
    ("trainer.fast_dev_run", [-1]),
    ("checkpoint.save_top_k", [-2]),
    ("checkpoint.every_n_epochs", [-1]),
    ("export.form", ["spiral"]),
    ("run", ["", ".", "..", "a/b", "/tmp/x"]),
]


@pytest.mark.parametrize(
    ("option", "value"),
    [(option, value) for option, values in REFUSED_BY_FIT for value in values],
    ids=lambda value: str(value)[:30],
)
def test_fit_at_its_edges(
    makemore: RunCommand,
    short_list: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: object,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Optimisation would otherwise begin, and end, before what is wrong is seen.
    args = [*QUICK, "--export.enabled", "true", f"--{option}", value]
    result = makemore("fit", "--data.path", short_list, *args)
    assert result.code == 2, result.out
    assert_one_line_error(result.err, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("data.batch_size", HUGE),  # all examples in one batch
        ("data.eval_batch_size", HUGE),
        ("data.split_seed", -1),
        ("data.split_seed", 10**30),
        ("seed_everything", 0),
        ("seed_everything", (1 << 32) - 1),
        ("model.init_seed", -1),
        ("model.momentum", 1),
        ("trainer.max_epochs", 0),
        ("trainer.max_steps", 0),
    ],
    ids=str,
)
def test_fit_within_its_edges(
    makemore: RunCommand,
    short_list: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: object,
) -> None:
    monkeypatch.chdir(tmp_path)
    args = [*QUICK, "--trainer.max_epochs", 1, "--export.enabled", "false", f"--{option}", value]
    result = makemore("fit", "--data.path", short_list, *args)
    assert (result.code, result.err) == (0, "")


def test_a_diverged_training_keeps_what_was_good(
    makemore: RunCommand, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run to be replaced stays where the new one has diverged before its first checkpoint."""
    monkeypatch.chdir(tmp_path)
    old = Path("checkpoints/mine/best.ckpt")
    old.parent.mkdir(parents=True)
    old.write_text("precious")
    args = ("--run", "mine", "--overwrite", "true", "--model.hidden_gain", "1e300", *QUICK)
    result = makemore("fit", "--data.path", short_list, *args)
    assert result.code == 2
    assert_one_line_error(result.err, "training has diverged; try a lower model.lr")
    assert [path.name for path in old.parent.iterdir()] == ["best.ckpt"]
    assert old.read_text() == "precious"


def test_weights_that_are_no_numbers_are_not_saved(
    makemore: RunCommand, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint from before stays, and can be gone on with."""
    monkeypatch.chdir(tmp_path)
    train = LitBatchNormMLP.training_step

    def diverge(module: LitBatchNormMLP, batch: Batch, batch_idx: int) -> torch.Tensor:
        if module.global_step == 5:
            module.net.get_parameter("layers.output.weight").data[0] = torch.nan
        return train(module, batch, batch_idx)

    monkeypatch.setattr(LitBatchNormMLP, "training_step", diverge)
    args = (*QUICK, "--run", "mine", "--data.batch_size", 100, "--checkpoint.every_n_train_steps", 2)
    result = makemore("fit", "--data.path", short_list, *args)
    assert result.code == 2
    assert_one_line_error(result.err, "step 6: the weights are no numbers any more: training has diverged")
    last = torch.load("checkpoints/mine/last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert all(value.isfinite().all() for value in last["state_dict"].values())


CONFIGS: dict[str, tuple[bytes, str]] = {
    "a list": (b"- a\n- b\n", "sections such as data, model and trainer are expected"),
    "a text": (b"hello", "sections such as data"),
    "nothing": (b"# only a comment\n", "sections such as data"),
    "no text": (b"\xff\xfe", "not UTF-8"),
    "no YAML": (b"{{{{", "not YAML"),
    "a control character": (b"data:\n  path: a\x07b\n", "not YAML"),
    "a tag that would run code": (
        b"data: !!python/object/apply:os.system ['touch code-has-run']",
        "not YAML (could not determine a constructor",
    ),
    "a class that is no logger": (
        b"trainer: {logger: {class_path: os.system, init_args: {command: touch code-has-run}}}",
        "trainer.logger",
    ),
    "a callback that is none": (b"trainer: {callbacks: [{class_path: os.system}]}", "trainer.callbacks"),
    "brackets 3,000 deep": (b"[" * 3_000, "nested too deeply"),
    "aliases for a billion values": (
        "\n".join(
            [f"x0: &x0 [{'a,' * 9}]", *(f"x{i}: &x{i} [{f'*x{i - 1},' * 9}]" for i in range(1, 10))]
        ).encode(),
        "more than 100,000 values",
    ),
    "a megabyte and more": (b"#" * ((1 << 20) + 1), "at most"),
    "an unknown section": (b"network: {width: 3}", "network"),
    "an unknown key": (b"model: {width: 3}", "width"),
    "a section that is a number": (b"data: 5", "no section of options"),
    "a section that is a list": (b"model: [1]", "no section of options"),
    "a path that is a list": (b"data: {path: [1, 2]}", "data.path"),
    "a size that is a text": (b"model: {n_hidden: many}", "n_hidden"),
    "a size that is a mapping": (b"model: {n_hidden: {a: 1}}", "n_hidden"),
    "a size that is a share": (b"data: {block_size: 3.7}", "block_size"),
    "a size of 0": (b"model: {n_hidden: 0}", "model.n_hidden must be at least 1"),
    "a size of -1": (b"model: {n_layers: -1}", "model.n_layers must be at least 1"),
    "a size of 10^9": (b"model: {n_hidden: 1000000000}", "weights × 8 bytes"),
    "a seed that is a mapping": (b"seed_everything: {}", "seed_everything"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_hostile_configs(
    makemore: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = CONFIGS[case]
    Path("bad.yaml").write_bytes(content)
    for option in (("--config", "bad.yaml"), ("--config=bad.yaml",)):
        result = makemore("fit", *option)
        assert result.code == 2
        assert_one_line_error(result.err, message)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_configs_that_are_no_files(
    makemore: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.yaml")
    for name, message in (
        ("pipe.yaml", "a pipe or a device"),
        (".", "Is a directory"),
        ("none.yaml", "No such file"),
        ("/dev/zero", "a pipe or a device"),
    ):
        result = makemore("fit", "--config", name)
        assert result.code == 2
        assert_one_line_error(result.err, message)
    assert makemore("fit", "--config").code == 2


def test_a_checkpoint_named_in_a_config_is_checked_as_any(
    makemore: RunCommand, run_folder: Path, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit = ("fit", "--config", run_folder / "config.yaml", "--config", "go-on.yaml", "--trainer.max_epochs", 4)
    for path, message in (
        (short_list, "not a checkpoint"),
        ("none.ckpt", "No such file"),
        ("last", "no last.ckpt"),
    ):
        Path("go-on.yaml").write_text(f"ckpt_path: {path}\nrun: null\n")
        result = makemore(*fit)
        assert result.code == 2
        assert_one_line_error(result.err, message)
    shutil.copytree(run_folder, "checkpoints/short")
    before = len(Path("checkpoints/short/metrics.csv").read_text().splitlines())
    assert makemore(*fit).code == 0
    assert len(Path("checkpoints/short/metrics.csv").read_text().splitlines()) > before
    assert [path.name for path in Path("checkpoints").iterdir()] == ["short"]


def test_a_file_here_wins_over_a_shipped_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert configs.find_config("deep") == str(configs.SHIPPED / "deep.yaml")
    Path("deep").write_text("model: {n_hidden: 7}")
    assert configs.find_config("deep") == "deep"


@pytest.mark.parametrize(
    "args",
    [
        ["export"],
        ["export", ""],
        ["export", "missing.ckpt"],
        ["export", "."],
        ["export", "{run}/best.ckpt", "--form", ""],
        ["export", "{run}/best.ckpt", "extra"],
        ["export", "{run}/best.ckpt", "-o", "{run}/best.ckpt"],
        ["export", "{run}/best.ckpt", "-o", "/proc/none"],
        ["export", "{run}/model.onnx"],
        ["verify"],
        ["verify", "{run}/model.onnx"],
        ["verify", "{run}", "{run}"],
        ["verify", "{run}/best.ckpt", "{run}/best.ckpt"],
        ["test"],
        ["test", "--ckpt_path"],
        ["test", "--ckpt_path", "nothing"],
        ["test", "--ckpt_path", "{run}/model.onnx"],
        ["test", "--ckpt_path", "{run}/best.ckpt", "--model.n_hidden", "100"],
        ["test", "--ckpt_path", "{run}/best.ckpt", "--data.block_size", "5"],
        ["validate", "--ckpt_path", "{run}/best.ckpt", "--data.eval_batch_size", "-1"],
        ["predict", "--ckpt_path", "{run}/best.ckpt", "--data.path", "{run}/config.yaml"],
        ["report", "{run}/best.ckpt", "-o", "."],
        ["lr-find", "--steps", "1000000000000"],
        ["lr-find", "--plot", "."],
    ],
    ids=lambda args: " ".join(args).replace("{run}/", ""),
)
def test_other_commands_at_their_edges(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = makemore(*(arg.replace("{run}", str(run_folder)) for arg in args))
    assert result.code == 2
    assert_one_line_error(result.err, "")
    assert list(tmp_path.iterdir()) == []
