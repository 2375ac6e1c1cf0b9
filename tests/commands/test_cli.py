"""The command line: help, errors of one line, exit codes, and the runtime commands' output."""

import csv
import gc
import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from helpers import QUICK, RunCommand, assert_one_line_error, in_a_process

from makemore_pl import __version__
from makemore_pl.cli import COMMANDS, imported
from makemore_pl.errors import DataError
from makemore_pl.parsing.config_files import SHIPPED as CONFIGS
from makemore_pl.parsing.names_io import read_lines


def test_help_names_every_command(makemore: RunCommand) -> None:
    for args in ([], ["--help"], ["-h"]):
        result = makemore(*args).succeeds()
        assert all(f"\n  {command} " in result.out for command in COMMANDS)
    assert makemore("--version").out == f"makemore {__version__}\n"


def test_no_garbage_is_looked_for_while_a_command_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What imports make stays: neither they nor the end of the process go through it. Once a module."""
    (tmp_path / "slow_to_import.py").write_text("import gc\nwas_on = gc.isenabled()\n")
    (tmp_path / "not_to_import.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(tmp_path)
    frozen = gc.get_freeze_count()
    try:
        module = imported("slow_to_import")
        assert not module.was_on
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        frozen = gc.get_freeze_count()
        assert imported("slow_to_import") is module
        assert gc.get_freeze_count() == frozen
        with pytest.raises(ImportError):
            imported("not_to_import")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        sys.modules.pop("slow_to_import", None)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(makemore: RunCommand, command: str) -> None:
    result = makemore(command, "--help").succeeds()
    assert f"makemore {command}" in result.out.replace("[options] ", "")
    expected = {
        "fit": [
            "--data.path",
            "--model.n_hidden",
            "--trainer.max_epochs",
            "--run",
            "--export.form",
            "--checkpoint.",
        ],
        "test": ["--ckpt_path", "--data.path"],
        "lr-find": ["--min_lr", "--max_lr", "--steps", "--plot", "--data.path", "--model.n_hidden"],
        "export": ["CKPT", "--output", "--form"],
        "verify": ["MODEL.onnx", "CKPT"],
        "report": ["CKPT", "--output", "--list", "--seed"],
        "sample": ["-n N", "--top-k TOP_K", "--match REGEX", "--unique", "--novel FILE", "--format"],
        "score": ["--sort", "--format"],
        "info": ["--format"],
    }
    for option in expected.get(command, []):
        assert option in result.out


@pytest.mark.parametrize("config", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_shipped_config_is_complete(makemore: RunCommand, config: str) -> None:
    result = makemore("fit", "--config", config, "--print_config").succeeds()
    parsed = yaml.safe_load(result.out)
    for section, values in yaml.safe_load((CONFIGS / f"{config}.yaml").read_text()).items():
        assert values.items() <= parsed[section].items()


def test_default_config_is_the_default(makemore: RunCommand) -> None:
    assert (
        makemore("fit", "--print_config").out == makemore("fit", "--config", "default", "--print_config").out
    )


def test_a_taken_run_name_is_refused_and_replaced_only_when_asked(
    makemore: RunCommand, short_list: Path, cwd: Path
) -> None:
    taken = Path("checkpoints/mine")
    taken.mkdir(parents=True)
    (taken / "model.onnx").write_text("precious")
    args = ("fit", "--data.path", short_list, "--run", "mine", "--export.enabled", "false", *QUICK)
    makemore(*args).fails_with("checkpoints/mine exists")
    assert (taken / "model.onnx").read_text() == "precious"
    # What cannot begin replaces nothing.
    assert makemore(*args, "--overwrite", "true", "--trainer.accelerator", "abacus").code == 2
    assert (taken / "model.onnx").read_text() == "precious"
    makemore(*args, "--overwrite", "true").succeeds()
    assert [path.name for path in taken.parent.iterdir()] == ["mine"]
    assert not (taken / "model.onnx").exists()
    assert (taken / "best.ckpt").exists()


def test_verify_exit_codes(makemore: RunCommand, run_folder: Path, tmp_path: Path) -> None:
    import torch

    good = makemore("verify", run_folder / "model.onnx", run_folder / "best.ckpt").succeeds()
    assert "verified on all" in good.out
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    content["state_dict"]["net.layers.output.weight"][2, 2] += 1e-3
    torch.save(content, tmp_path / "other.ckpt")
    makemore("verify", run_folder / "model.onnx", tmp_path / "other.ckpt").fails_with(
        "is not the trained model", code=1
    )
    missing = makemore("verify", run_folder / "model.onnx")
    assert missing.code == 2


def test_sample_formats_agree(makemore: RunCommand, run_folder: Path) -> None:
    args = ("sample", run_folder, "-n", 7, "--seed", 1)
    text = makemore(*args).out.splitlines()
    rows = json.loads(makemore(*args, "--format", "json").out)
    table = list(csv.DictReader(io.StringIO(makemore(*args, "--format", "csv").out)))
    assert len(text) == 7
    assert [row["name"] for row in rows] == text == [row["name"] for row in table]
    assert [row["log_prob"] for row in rows] == [float(row["log_prob"]) for row in table]
    assert json.loads(makemore("sample", run_folder, "-n", 0, "--format", "json").out) == []


def test_the_newest_export_is_found_and_named_once(
    makemore: RunCommand, run_folder: Path, short_list: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder.parents[1])
    newest = f"model: checkpoints/{run_folder.name}, the newest\n"
    for args, given in (
        (["sample", "--seed", 1], ["sample", run_folder, "--seed", 1]),
        (["score", short_list], ["score", run_folder, short_list]),
        (["info"], ["info", Path("checkpoints") / run_folder.name]),
    ):
        result, expected = makemore(*args), makemore(*given)
        assert (result.code, result.out, result.err) == (0, expected.out, newest + expected.err)
        assert "newest" not in expected.err
        quiet = makemore(*args, "--quiet")
        assert (quiet.code, quiet.out, quiet.err) == (0, expected.out, "")
    last = f"checkpoints/{run_folder.name}/last.ckpt"
    assert makemore("test", "last").err.count(f"checkpoint: {last}, of the newest run\n") == 1
    assert "newest" not in makemore("test", last).err
    assert makemore("test", "last", "--quiet").err == ""


def test_sample_novel_and_shortfall(
    makemore: RunCommand, run_folder: Path, short_list: Path, tmp_path: Path
) -> None:
    result = makemore(
        "sample", run_folder, "--seed", 1, "-n", 50, "--novel", short_list, "--unique"
    ).succeeds()
    assert not set(result.out.split()) & set(short_list.read_text().split())
    short = makemore("sample", run_folder, "-n", 3, "--temperature", 0, "--unique")
    assert short.code == 1
    assert len(short.out.splitlines()) == 1
    assert_one_line_error(short.err, "found 1 of 3 names")
    missing = makemore("sample", run_folder, "--novel", tmp_path / "none.txt")
    assert missing.code == 2


def test_score(makemore: RunCommand, run_folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("emma\nzjvj\nzoë\nava\n", encoding="utf-8")
    rows = json.loads(makemore("score", run_folder, names, "--format", "json").out)
    assert [row["name"] for row in rows] == ["emma", "zjvj", "zoë", "ava"]
    assert rows[2]["log_prob"] is None
    assert rows[2]["unknown"] == "ë"
    ranked = json.loads(makemore("score", run_folder, names, "--format", "json", "--sort").out)
    assert [row["name"] for row in ranked][:2] == ["zoë", "zjvj"]
    assert json.loads(makemore("score", run_folder, "--sort", names, "--format", "json").out) == ranked
    text = makemore("score", run_folder, names).out
    assert "(unknown: ë)" in text
    assert len(text.splitlines()) == 5


def test_score_from_standard_input(run_folder: Path) -> None:
    command = [sys.executable, "-m", "makemore_pl", "score", run_folder, "-", "--format", "csv"]
    done = in_a_process(*command, input="emma\n\n  zoë \nava\n").succeeds()
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [(row["name"], row["unknown"]) for row in rows] == [("emma", ""), ("zoë", "ë"), ("ava", "")]
    bad = in_a_process(*command, input="emma\nÿ\n", encoding="latin-1")
    bad.fails_with("standard input: not UTF-8")


def test_lines_without_an_end_are_refused() -> None:
    names = list(read_lines(io.StringIO("emma\n" + "a" * 10_000 + "\nava"), "names"))
    assert [len(name) for name in names] == [4, 10_000, 3]
    with pytest.raises(DataError, match="names, line 2: more than 10,000 characters"):
        list(read_lines(io.StringIO("emma\n" + "a" * 10_001), "names"))


def test_a_reader_that_leaves_is_no_error(run_folder: Path) -> None:
    command = f"{sys.executable} -m makemore_pl sample {run_folder} -n 100000 | head -n 1"
    done = in_a_process("bash", "-o", "pipefail", "-c", command)
    assert (done.code, done.err) == (0, "")


def test_info(makemore: RunCommand, run_folder: Path) -> None:
    shown = makemore("info", run_folder / "model.onnx").out
    assert "context:     3 characters" in shown
    assert "verified:    on all" in shown
    content = json.loads(makemore("info", run_folder, "--format", "json").out)
    assert content["block_size"] == 3
    assert content["verification"]["exhaustive"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("sample {run} -n 5 > /dev/full", 2, "No space left on device"),
        ("sample {run} -n 5 >&-", 0, ""),
        ("sample {run} -n 5 2>&-", 0, ""),
        ("sample {run} -n 5 2>&- --temperature -1", 2, ""),
        ("sample {run} -n 5 <&-", 0, ""),
        ("score {run} - <&-", 2, "standard input is closed"),
    ],
)
def test_streams_that_are_closed_or_full(run_folder: Path, arguments: str, code: int, message: str) -> None:
    command = f"{sys.executable} -m makemore_pl {arguments.format(run=run_folder)}"
    done = in_a_process("bash", "-c", command)
    if message:
        done.fails_with(message)
    else:
        assert (done.code, done.err) == (code, "")


def test_hidden_folders_are_no_runs(makemore: RunCommand, run_folder: Path, cwd: Path) -> None:
    shutil.copytree(run_folder, Path("checkpoints/.old.replaced"))
    makemore("sample").fails_with("no export found under checkpoints/")
    makemore("test", "--ckpt_path", "best").fails_with("no best.ckpt under checkpoints/")
    makemore("fit", "--run", ".old.replaced").fails_with("no name for a folder")


SPIN_COUNT_WHEN_PYTORCH_IS_LOADED = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch())
from makemore_pl.cli import main
main(["export", "--help"])
"""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_waiting_threads_sleep_unless_the_user_has_settled_it(
    variables: dict[str, str], expected: str
) -> None:
    settled = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in settled}
    code = SPIN_COUNT_WHEN_PYTORCH_IS_LOADED
    done = in_a_process(sys.executable, "-c", code, env=environment | variables).succeeds()
    assert done.out.split() == [expected]


LEAVING = """
import atexit, os, sys
from makemore_pl import cli

class Module:
    def __del__(self):
        print("taken apart")

module = Module()

def run(args):
    atexit.register(print, "registered")
    exec(args[0])

cli._run = run
cli.main() if sys.argv[1:] else cli.main(["pass"])
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("pass", 0),
        ("sys.exit()", 0),
        ("sys.exit(5)", 5),
        ("sys.exit('why')", 1),
        ("1 / 0", 1),
        ("os.wait() if os.fork() else sys.exit(3)", 0),  # a fork does not speak for the process
    ],
)
def test_the_process_ends_after_what_was_registered_and_nothing_more(command: str, code: int) -> None:
    done = in_a_process(sys.executable, "-c", LEAVING, command)
    assert done.code == code, done.err
    assert set(done.out.split("\n")) == {"registered", ""} | ({"taken apart"} if "fork" in command else set())


def test_a_process_of_somebody_else_is_left_to_python() -> None:
    done = in_a_process(sys.executable, "-c", LEAVING).succeeds()
    assert done.out == "registered\ntaken apart\n"
