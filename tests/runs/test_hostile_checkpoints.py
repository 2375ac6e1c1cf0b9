"""Checkpoints that are damaged or hostile: one line, no code run, nothing written."""

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
from helpers import QUICK, RunCommand

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
    """Replace the value at `path` in nested dicts."""

    def change(content: Content) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def weight(value: object) -> Change:
    return put("state_dict", "net.layers.output.bias", value=value)


DAMAGE: dict[str, tuple[Change, str]] = {
    "nothing in it": (lambda content: content.clear(), "it has no global_step of type int"),
    "weights in a list": (put("state_dict", value=[1, 2]), "no state_dict of type dict"),
    "an unknown argument": (put("hyper_parameters", "evil", value=1), "unexpected keyword argument 'evil'"),
    "an unknown argument of the data": (
        put("datamodule_hyper_parameters", "evil", value=1),
        "evil of the data",
    ),
    "an argument of the data that is a list": (
        put("datamodule_hyper_parameters", "path", value=["a"]),
        "path of the data",
    ),
    "an argument that is a list": (put("hyper_parameters", "n_hidden", value=[200]), "do not fit"),
    "a width of 10^9": (put("hyper_parameters", "n_hidden", value=10**9), "weights × 8 bytes"),
    "another width": (put("hyper_parameters", "n_hidden", value=201), "do not fit its arguments"),
    "no block size": (lambda content: content["hyper_parameters"].pop("block_size"), "'block_size'"),
    "another block size": (put("datamodule_hyper_parameters", "block_size", value=4), "context of the data"),
    "no vocabulary": (lambda content: content["NamesDataModule"].pop("characters"), "vocabulary of the data"),
    "a smaller vocabulary": (put("NamesDataModule", "characters", value="abc"), "vocabulary of the data"),
    "names of 10^9": (put("NamesDataModule", "longest_name", value=10**9), "longest_name of the data"),
    "a weight that is a text": (weight("zero"), "do not fit its arguments"),
    "a weight of another shape": (weight(torch.zeros(3)), "do not fit its arguments"),
    "a NaN weight": (weight(torch.full((14,), torch.nan)), "training has diverged"),
    "an infinite weight": (weight(torch.full((14,), torch.inf)), "training has diverged"),
    "a weight too many": (put("state_dict", "evil", value=torch.zeros(1)), "do not fit its arguments"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(run_folder: Path, tmp_path: Path, case: str) -> None:
    change, message = DAMAGE[case]
    file = changed(run_folder / "best.ckpt", tmp_path / "bad.ckpt", change)
    with pytest.raises(CheckpointError, match=r"bad\.ckpt: ") as error:
        read_checkpoint(file)
    assert message in str(error.value)


def test_an_unchanged_copy_is_read(run_folder: Path, tmp_path: Path) -> None:
    """The cases above fail because of the change, not because of the copy."""
    file = changed(run_folder / "last.ckpt", tmp_path / "same.ckpt", lambda content: None)
    assert read_checkpoint(file).data == read_checkpoint(run_folder / "last.ckpt").data


@pytest.mark.parametrize("command", ["export", "verify", "test", "fit"])
def test_commands_refuse_damage_in_one_line(
    makemore: RunCommand, run_folder: Path, cwd: Path, command: str
) -> None:
    file = changed(run_folder / "best.ckpt", Path("bad.ckpt"), weight(torch.full((14,), torch.nan)))
    options = {"export": [file], "verify": [run_folder / "model.onnx", file]}
    result = makemore(command, *options.get(command, ["--ckpt_path", file]))
    assert result.fails_with("training has diverged").out == ""
    assert [path.name for path in cwd.iterdir()] == ["bad.ckpt"]


@pytest.mark.parametrize("command", ["export", "test", "fit"])
def test_code_in_a_checkpoint_is_never_run(
    makemore: RunCommand, run_folder: Path, cwd: Path, command: str
) -> None:
    """In an archive as PyTorch writes it, anywhere in it, in a bare pickle, and in PyTorch's old format."""
    trace = cwd / "code-has-run"
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
        makemore(command, *option, file).fails_with(str(file))
        assert not trace.exists()
    assert sorted(Path().iterdir()) == files


def test_flipped_bits_are_found_wherever_they_are(run_folder: Path, tmp_path: Path) -> None:
    """In every member of the archive, between them, and in its directory. PyTorch reads a flipped weight."""
    good_file = run_folder / "best.ckpt"
    good = good_file.read_bytes()
    expected = read_checkpoint(good_file)
    with zipfile.ZipFile(good_file) as archive:
        starts = [member.header_offset for member in archive.infolist()]
    rng = np.random.default_rng(0)
    places = {start + offset for start in starts for offset in (0, 20, 200)}
    places |= {*range(len(good) - 40, len(good)), *rng.integers(len(good), size=60).tolist()}
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
        assert (read.model_arguments, read.data) == (expected.model_arguments, expected.data)
        assert read.weights.keys() == expected.weights.keys()
        assert all(torch.equal(value, expected.weights[name]) for name, value in read.weights.items())
    assert found > 50


@pytest.mark.parametrize("share", [0, 1e-5, 0.5, 0.999])
def test_truncated_checkpoints(run_folder: Path, tmp_path: Path, share: float) -> None:
    good = (run_folder / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(good[: int(len(good) * share)])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        read_checkpoint(tmp_path / "cut.ckpt")


def test_archives_that_would_unpack_to_gigabytes(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "100K")
    with pytest.raises(MakemoreError, match="bytes of tensors"):
        read_checkpoint(run_folder / "best.ckpt")


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ckpt")
    for path in (tmp_path / "pipe.ckpt", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="a pipe or a device"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        put("loops", value=3),
        lambda content: content.pop("optimizer_states"),
        lambda content: content["optimizer_states"][0].update(param_groups=[]),
    ],
    ids=["loops", "no optimiser", "another optimiser"],
)
def test_a_state_that_cannot_be_resumed_leaves_the_run_as_it_was(
    makemore: RunCommand,
    run_folder: Path,
    short_list: Path,
    cwd: Path,
    change: Change,
) -> None:
    """Only `fit` reads the state of optimiser and loops."""
    run = cwd / "checkpoints" / "short"
    shutil.copytree(run_folder, run)
    changed(run_folder / "last.ckpt", run / "last.ckpt", change)
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    options = ("--data.path", short_list, *QUICK[2:], "--trainer.max_epochs", 4, "--run", "short")
    makemore("fit", "--ckpt_path", "last", *options).fails_with("last.ckpt")
    assert len(kept) >= 6
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == kept
