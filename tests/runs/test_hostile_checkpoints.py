"""Checkpoints that are damaged, forged or hostile: one line, no code run, nothing written."""

import copy
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import QUICK, RunCommand, assert_one_line_error

from makemore_pl.errors import CheckpointError, MakemoreError
from makemore_pl.memory import VARIABLE
from makemore_pl.runs.checkpoint import read_checkpoint

Content = dict[str, Any]
Change = Callable[[Content], object]


class Exploit:
    """Unpickling it creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.file), "w"))


def changed(source: Path, to: Path, change: Change) -> Path:
    content = torch.load(source, weights_only=True)
    change(content)
    torch.save(content, to)
    return to


def put(*path: str, value: object) -> Change:
    """Replace what stands at `path` in nested dicts."""

    def change(content: Content) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def weight(value: torch.Tensor | object) -> Change:
    return put("state_dict", "net.layers.output.bias", value=value)


HOSTILE: dict[str, tuple[Change, str]] = {
    "of another program": (lambda content: content.clear(), "it lacks global_step, state_dict"),
    "weights in a list": (put("state_dict", value=[1, 2]), "state_dict is no dict"),
    "a step that is a text": (put("global_step", value="many"), "global_step is no int"),
    "arguments that are a number": (put("hyper_parameters", value=5), "hyper_parameters is no dict"),
    "an unknown argument": (put("hyper_parameters", "evil", value=1), "an unknown argument 'evil'"),
    "an unknown argument of the data": (
        put("datamodule_hyper_parameters", "evil", value=1),
        "an unknown argument 'evil'",
    ),
    "an argument that is a list": (put("hyper_parameters", "n_hidden", value=[200]), "n_hidden is a list"),
    "an argument that is a text": (put("hyper_parameters", "n_hidden", value="200"), "do not fit"),
    "a width of 10^9": (put("hyper_parameters", "n_hidden", value=10**9), "weights × 8 bytes"),
    "a width of 0": (put("hyper_parameters", "n_hidden", value=0), "at least 1"),
    "a width of -1": (put("hyper_parameters", "n_hidden", value=-1), "at least 1"),
    "another width": (put("hyper_parameters", "n_hidden", value=201), "do not fit its arguments"),
    "no block size": (lambda content: content["hyper_parameters"].pop("block_size"), "block_size: None"),
    "a block size of true": (
        put("datamodule_hyper_parameters", "block_size", value=True),
        "block_size: True",
    ),
    "no vocabulary": (lambda content: content["NamesDataModule"].pop("characters"), "of its list"),
    "a vocabulary too small": (put("NamesDataModule", "characters", value="abc"), "of its list"),
    "a vocabulary in another order": (
        lambda content: content["NamesDataModule"].update(
            characters=content["NamesDataModule"]["characters"][::-1]
        ),
        "of its list",
    ),
    "a vocabulary of numbers": (put("NamesDataModule", "characters", value=[1, 2]), "of its list"),
    "names of 10^9": (put("NamesDataModule", "longest_name", value=10**9), "of its list"),
    "a weight that is a text": (weight("zero"), "is no dense tensor"),
    "a weight of another shape": (weight(torch.zeros(3)), "do not fit its arguments"),
    "a weight of integers": (weight(torch.zeros(3, dtype=torch.int64)), "do not fit its arguments"),
    "a sparse weight": (weight(torch.zeros(27).to_sparse()), "is no dense tensor"),
    "a weight that is no number": (weight(torch.full((27,), torch.nan)), "training has diverged"),
    "an infinite weight": (weight(torch.full((27,), torch.inf)), "training has diverged"),
    "four terabytes of weights": (weight(torch.zeros(1).expand(1 << 40)), "larger than its memory"),
    "a weight too many": (put("state_dict", "evil", value=torch.zeros(1)), "do not fit its arguments"),
    "a weight too few": (
        lambda content: content["state_dict"].pop("net.layers.output.bias"),
        "do not fit its arguments",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_checkpoints(makemore: RunCommand, run_folder: Path, tmp_path: Path, case: str) -> None:
    change, message = HOSTILE[case]
    file = changed(run_folder / "best.ckpt", tmp_path / "bad.ckpt", change)
    for args in (("export", file, "-o", tmp_path / "out"), ("verify", run_folder / "model.onnx", file)):
        result = makemore(*args)
        assert result.code == 2
        assert result.out == ""
        assert_one_line_error(result.err, message)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]


@pytest.mark.parametrize("command", ["export", "test", "fit"])
def test_code_in_a_checkpoint_is_never_run(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """In an archive as PyTorch writes it, anywhere in it, in a bare pickle, and in PyTorch's old format."""
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "code-has-run"
    exploit = Exploit(trace)
    good = torch.load(run_folder / "best.ckpt", weights_only=True)
    torch.save(exploit, "whole.ckpt")
    torch.save({**good, "callbacks": {"evil": exploit}}, "part.ckpt")
    torch.save({**good, "state_dict": exploit}, "old.ckpt", _use_new_zipfile_serialization=False)
    Path("bare.ckpt").write_bytes(pickle.dumps(exploit))
    files = sorted(Path().glob("*.ckpt"))
    assert len(files) == 4
    pickle.loads(Path("bare.ckpt").read_bytes()).close()
    assert trace.exists()  # it would
    trace.unlink()
    for file in files:
        option = () if command == "export" else ("--ckpt_path",)
        result = makemore(command, *option, file)
        assert result.code == 2
        assert_one_line_error(result.err, str(file))
        assert not trace.exists()
    assert sorted(Path().iterdir()) == files


def test_flipped_bits_are_found_wherever_they_are(run_folder: Path, tmp_path: Path) -> None:
    """In every member of the archive, in what is between them, and in its directory.

    PyTorch by itself reads a flipped weight without a word.
    """
    good_file = run_folder / "best.ckpt"
    good = good_file.read_bytes()
    expected = read_checkpoint(good_file)
    with zipfile.ZipFile(good_file) as archive:
        starts = [member.header_offset for member in archive.infolist()]
        directory = archive.start_dir
    inside = [start + 200 for start in starts] + [start + 20 for start in starts] + starts
    rng = np.random.default_rng(0)
    places = {*inside, *range(directory, directory + 60), *range(len(good) - 40, len(good))}
    places |= set(rng.integers(len(good), size=150).tolist())
    file = tmp_path / "flipped.ckpt"
    found = 0
    for place in sorted(place for place in places if place < len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            read = read_checkpoint(file)
        except MakemoreError:
            found += 1
            continue
        # Padding, dates and the like carry nothing.
        assert read.model_arguments == expected.model_arguments
        assert read.data == expected.data
        assert read.weights.keys() == expected.weights.keys()
        assert all(torch.equal(value, expected.weights[name]) for name, value in read.weights.items())
    assert found > 100


def test_a_flipped_weight_that_pytorch_reads(run_folder: Path, tmp_path: Path) -> None:
    content = bytearray((run_folder / "best.ckpt").read_bytes())
    key = "net.layers.output.weight"
    weights = torch.load(run_folder / "best.ckpt", weights_only=True)["state_dict"][key]
    place = content.index(weights.numpy().tobytes()) + 1_002
    content[place] ^= 1
    (tmp_path / "flipped.ckpt").write_bytes(content)
    other = torch.load(tmp_path / "flipped.ckpt", weights_only=True)["state_dict"][key]
    assert not torch.equal(other, weights)
    with pytest.raises(CheckpointError, match=r"the checksum of .* is wrong"):
        read_checkpoint(tmp_path / "flipped.ckpt")


@pytest.mark.parametrize("share", [0, 1e-5, 0.1, 0.5, 0.9, 0.999])
def test_truncated_checkpoints(run_folder: Path, tmp_path: Path, share: float) -> None:
    good = (run_folder / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(good[: int(len(good) * share)])
    with pytest.raises(
        CheckpointError, match="not a checkpoint" if share < 1e-4 else "damaged, or cut short"
    ):
        read_checkpoint(tmp_path / "cut.ckpt")


def test_archives_that_would_unpack_to_gigabytes(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        zipfile.ZipFile(run_folder / "best.ckpt") as source,
        zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match="a compressed archive"):
        read_checkpoint(tmp_path / "bomb.ckpt")
    monkeypatch.setenv(VARIABLE, "100K")
    with pytest.raises(MakemoreError, match="bytes of tensors"):
        read_checkpoint(run_folder / "best.ckpt")


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ckpt")
    for path in (tmp_path / "pipe.ckpt", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="a pipe or a device"):
            read_checkpoint(path)


STATES: dict[str, Change] = {
    "no optimiser's state": lambda content: content.pop("optimizer_states"),
    "an optimiser of texts": put("optimizer_states", value=["evil"]),
    "another optimiser's state": lambda content: content["optimizer_states"][0].update(param_groups=[]),
    "moments of another size": put("optimizer_states", 0, "state", 0, "exp_avg", value=torch.ones(2)),
    "moments that share a number": put(
        "optimizer_states", 0, "state", 0, "exp_avg", value=torch.ones(1).expand(27, 10)
    ),
    "moments that are NaN": put(
        "optimizer_states", 0, "state", 0, "exp_avg_sq", value=torch.full((27, 10), float("nan"))
    ),
    "a step of two numbers": put("optimizer_states", 0, "state", 0, "step", value=torch.ones(2)),
    "a weight decay of NaN": put(
        "optimizer_states", 0, "param_groups", 0, "weight_decay", value=float("nan")
    ),
    "loops that are a number": put("loops", value=3),
    "progress of texts": put("loops", "fit_loop", "epoch_progress", value="all"),
    "steps below 0": put("loops", "fit_loop", "epoch_loop.state_dict", "_batches_that_stepped", value=-1),
    "callbacks in a list": put("callbacks", value=[1]),
    "scores of two numbers": put("callbacks", "RunCheckpoint", "best_model_score", value=torch.ones(2)),
    "a version of nowhere": put("pytorch-lightning_version", value="evil"),
    "a schedule of texts": put("lr_schedulers", value=["evil"]),
    "learning rates in a tensor": put("lr_schedulers", 0, "base_lrs", 0, value=torch.ones(3)),
}
FIRST_STEPS: dict[str, Change] = {
    "an optimiser's flag": put("optimizer_states", 0, "param_groups", 0, "differentiable", value=True),
    "no betas": lambda content: content["optimizer_states"][0]["param_groups"][0].pop("betas"),
    "a schedule too short": put("lr_schedulers", 0, "base_lrs", value=[]),
    "a loader's place of texts": put("loops", "fit_loop", "state_dict", "combined_loader", 0, value="evil"),
}
"""Shows only when the first step is made."""


@pytest.mark.parametrize("case", [*STATES, *FIRST_STEPS])
def test_states_that_cannot_be_gone_on_with(
    makemore: RunCommand,
    run_folder: Path,
    short_list: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    """What only `fit` reads. The run that it belongs to stays as it was."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "checkpoints" / "short"
    shutil.copytree(run_folder, run)
    changed(run_folder / "last.ckpt", run / "last.ckpt", {**STATES, **FIRST_STEPS}[case])
    kept = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    if case in FIRST_STEPS:  # training has begun
        kept.pop(run / "config.yaml")
    options = ("--data.path", short_list, *QUICK[2:], "--trainer.max_epochs", 4, "--run", "short")
    result = makemore("fit", "--ckpt_path", "last", *options)
    assert result.code == 2
    assert_one_line_error(result.err, "last.ckpt")
    assert len(kept) >= 7
    assert all(path.read_bytes() == content for path, content in kept.items())


@pytest.mark.parametrize(
    "path",
    ["checkpoints/short/../../precious", "{}/precious", "file://{}/precious", "checkpoints/short/plots"],
)
def test_a_forged_checkpoint_deletes_nothing(
    makemore: RunCommand,
    run_folder: Path,
    short_list: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    """What a checkpoint calls an earlier one is deleted when a better or later one has been written."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "checkpoints" / "short"
    shutil.copytree(run_folder, run)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("")
    forged, worst = path.format(tmp_path), torch.tensor(9.0)

    def forge(content: dict[str, Any]) -> None:
        content["callbacks"]["RunCheckpoint"] |= {
            "dirpath": "checkpoints/short",
            "best_k_models": {forged: worst},
            "kth_value": worst,
            "best_model_score": worst,
            **dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), forged),
        }

    changed(run_folder / "last.ckpt", run / "last.ckpt", forge)
    options = ("--data.path", short_list, *QUICK[2:], "--trainer.max_epochs", 4)
    assert makemore("fit", "--ckpt_path", "last", *options).code == 0
    assert (tmp_path / "precious" / "file").is_file()
    assert (run / "plots").is_dir()
    assert (run / "best.ckpt").is_file()


def test_the_unchanged_checkpoint_is_gone_on_with(run_folder: Path, tmp_path: Path) -> None:
    """The cases above fail for what was changed, not for the copy."""
    file = changed(run_folder / "last.ckpt", tmp_path / "same.ckpt", copy.copy)
    assert read_checkpoint(file).data == read_checkpoint(run_folder / "last.ckpt").data
