"""The whole pipeline through the command line."""

import csv
import io
import json
import shlex
import signal
from pathlib import Path

import pytest
import yaml
from helpers import QUICK, RunCommand

from makemore_pl.data.corpus import SPLITS
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.schedule import default_weight_decay
from makemore_pl.runs.checkpoint import read_checkpoint


def read_metrics(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def test_fit_leaves_everything_behind(run_folder: Path) -> None:
    names = {path.name for path in run_folder.iterdir()}
    assert {
        "best.ckpt",
        "last.ckpt",
        "config.yaml",
        "metrics.csv",
        "model.onnx",
        "verification.json",
    } <= names
    assert (run_folder / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((run_folder / "tensorboard").glob("events.out.tfevents.*"))
    rows = read_metrics(run_folder)
    assert len([row for row in rows if row["val/nll"]]) == 3
    assert not [path for path in run_folder.iterdir() if path.name.startswith(".")]
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    assert config["data"]["batch_size"] == 64


def test_fit_prints_where_things_are_and_names(
    makemore: RunCommand, run_folder: Path, short_list: Path, cwd: Path
) -> None:
    """A second run of the same list gets a folder of its own; the same seed gives the same bytes."""
    Path("checkpoints/short").mkdir(parents=True)
    Path("checkpoints/short/best.ckpt").touch()
    out = makemore("fit", "--data.path", short_list, "--data.batch_size", 64, *QUICK).succeeds().out
    assert "checkpoints/short-2/model.onnx, verified on all" in out
    [names] = [line for line in out.splitlines() if line.startswith("names:")]
    assert len(names.removeprefix("names:").split(",")) == 10
    assert Path("checkpoints/short-2/model.onnx").read_bytes() == (run_folder / "model.onnx").read_bytes()


def test_the_length_of_the_list_sets_the_weight_decay(run_folder: Path) -> None:
    run = read_checkpoint(run_folder / "best.ckpt")
    module = LitBatchNormMLP(**run.model_arguments)
    n_examples = NamesDataModule(**run.data_arguments).n_examples
    assert (
        module.weight_decay
        == default_weight_decay(n_examples, module.lr)
        != LitBatchNormMLP(27, 3).weight_decay
    )


def test_unicode_list_from_end_to_end(makemore: RunCommand, unicode_list: Path, cwd: Path) -> None:
    makemore("fit", "--data.path", unicode_list, "--data.block_size", 1, *QUICK).succeeds()
    run = Path("checkpoints/unicode")
    info = json.loads(makemore("info", run, "--format", "json").out)
    assert {"Ž", " ", "'", ".", "美", "م", "Ω"} <= set(info["characters"])
    assert info["verification"]["contexts"] == len(info["characters"]) + 1
    names = makemore("sample", run, "-n", 200, "--seed", 1).out.splitlines()
    assert len(names) == 200
    assert any(ord(character) > 0x3000 for name in names for character in name)
    [scored] = json.loads(makemore("score", run, unicode_list, "--format", "json").out)[-1:]
    assert scored["name"] == "Anne Marie"
    assert scored["log_prob"] < 0


def test_contexts_too_many_to_enumerate(
    makemore: RunCommand, short_list: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from makemore_pl.proof import contexts

    monkeypatch.setattr(contexts, "RANDOM_LOGITS", 14_000)
    options = ("--data.block_size", 6, "--model.n_layers", 2, "--model.n_hidden", 50)
    makemore("fit", "--data.path", short_list, *options, *QUICK).succeeds()
    report = json.loads(Path("checkpoints/short/verification.json").read_text())
    assert not report["exhaustive"]
    assert report["contexts_total"] == 14**6
    assert report["contexts"] > 2_000  # the corpus's own besides the random ones

    run = read_checkpoint("checkpoints/short/best.ckpt")
    data = NamesDataModule(**run.data_arguments)
    every = {tuple(row) for split in SPLITS for row in data.examples(split)[0].tolist()}
    assert {tuple(row) for row in contexts.corpus_contexts(run).tolist()} == every
    assert report["contexts"] == 1_000 + len(every)
    monkeypatch.setattr(contexts, "EXAMPLES_AT_A_TIME", 100)
    assert {tuple(row) for row in contexts.corpus_contexts(run).tolist()} == every
    monkeypatch.setattr(contexts, "MOST_OF_CORPUS", 300)
    some = {tuple(row) for row in contexts.corpus_contexts(run).tolist()}
    assert some < every
    assert len(some) >= 300


def test_validate_test_and_predict_need_only_the_checkpoint(
    makemore: RunCommand, run_folder: Path, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder.parents[1])
    before = sorted(Path().rglob("*"))
    for command, metric in (("validate", "val/nll"), ("test", "test/nll")):
        result = makemore(
            command, "--ckpt_path", run_folder / "best.ckpt", "--trainer.enable_progress_bar", "false"
        ).succeeds()
        assert metric in result.out
    assert makemore("test", "--ckpt_path", "best", "--run", "short").code == 2  # --run belongs to fit
    result = makemore("predict", "--ckpt_path", "best", "--trainer.enable_progress_bar", "false").succeeds()
    rows = list(csv.DictReader(io.StringIO(result.out[result.out.index("context,") :])))
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    assert {len(row["next"]) for row in rows} == {0, 1}
    assert sorted(Path().rglob("*")) == before


def test_checkpoint_on_another_list_keeps_its_vocabulary(
    makemore: RunCommand, run_folder: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n".join(f"{a}nn{b}" for a in "aeio" for b in "aeio"))
    args = ("test", "--ckpt_path", run_folder / "best.ckpt", "--trainer.enable_progress_bar", "false")
    makemore(*args, "--data.path", few).succeeds()
    few.write_text("\n".join(f"{a}ñ{b}" for a in "aeio" for b in "aeio"))
    makemore(*args, "--data.path", few).fails_with("does not know 'ñ'")


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(
    makemore: RunCommand, short_list: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:

        def press_ctrl_c(module: LitBatchNormMLP) -> None:
            if module.current_epoch == 2:
                raise KeyboardInterrupt

        context.setattr(LitBatchNormMLP, "on_train_epoch_start", press_ctrl_c)
        before = signal.getsignal(signal.SIGINT)
        result = makemore("fit", "--data.path", short_list, *QUICK)
        signal.signal(signal.SIGINT, before)  # Lightning leaves it ignored
    assert result.code == 130
    assert "; resume with: makemore fit " in result.err
    makemore("fit", *shlex.split(result.err.rpartition("makemore fit")[2])).succeeds()
    assert len([row for row in read_metrics(Path("checkpoints/short")) if row["val/nll"]]) == 3


def test_fast_dev_run_leaves_nothing(makemore: RunCommand, short_list: Path, cwd: Path) -> None:
    makemore("fit", "--data.path", short_list, "--trainer.fast_dev_run", "true", *QUICK[2:]).succeeds()
    assert list(cwd.iterdir()) == []
