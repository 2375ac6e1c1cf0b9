"""A run stopped at any instant, and resumed, ends bit for bit as one that was never stopped.

Runs are processes of their own, forked from a server that has imported everything, and killed by SIGKILL
where a test wants it.
"""

import multiprocessing
import os
import re
import resource
import shlex
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import load, trainer

from makemore_pl import files as atomic
from makemore_pl.cli import main
from makemore_pl.commands import fit as fit_command
from makemore_pl.errors import CheckpointError, RequestError
from makemore_pl.export import export
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runs import checkpointing as saving
from makemore_pl.runs.run_folder import claim_run, resolve_checkpoint

pytestmark = pytest.mark.slow
RUN = Path("checkpoints") / "killed"
FIT = shlex.split(
    "fit --data.path names.txt --run killed --data.batch_size 50 --model.n_hidden 24 --model.dropout 0.2 "
    "--trainer.max_epochs 3 --trainer.val_check_interval 5 --checkpoint.every_n_train_steps 2 "
    "--trainer.log_every_n_steps 3 --export.form fused --trainer.accelerator cpu "
    "--trainer.enable_progress_bar false"
)
ANY = -1
"""In place of a step."""
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["makemore_pl.commands.fit", "makemore_pl.export.export", "test_resuming"])


def send(number: int) -> None:
    os.kill(os.getpid(), number)


die = partial(send, signal.SIGKILL)


def at_step(step: int, act: Callable[[], Any], hook: str = "training_step") -> None:
    """Have the training act when it comes to a step."""
    original = getattr(LitBatchNormMLP, hook)

    def acting(module: LitBatchNormMLP, *args: Any) -> Any:
        if step in (module.global_step, ANY):
            act()
        return original(module, *args)

    setattr(LitBatchNormMLP, hook, acting)


def die_while_writing() -> None:
    """Half of a checkpoint is on the disk."""
    fsync = os.fsync

    def cut_short(fd: int) -> None:
        if Path(RUN / "last.ckpt").is_file() and Path(f"{RUN}/.last.ckpt.part").is_file():
            step = torch.load(RUN / "last.ckpt", weights_only=True)["global_step"]
            if step > 8:
                os.ftruncate(fd, os.fstat(fd).st_size // 2)
                die()
        fsync(fd)

    atomic.os.fsync = cut_short  # type: ignore[attr-defined]


def die_after_best(step: int) -> None:
    """A better best.ckpt has been written after that step; last.ckpt is of an earlier one, or not there."""
    save = saving.AtomicCheckpointIO.save_checkpoint

    def save_best_only(self: Any, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(self, checkpoint, path)
        if Path(path).name == "best.ckpt" and checkpoint["global_step"] > step:
            die()

    saving.AtomicCheckpointIO.save_checkpoint = save_best_only  # type: ignore[method-assign]


def die_in_export() -> None:
    fit_command.export_checkpoint = lambda *args, **kwargs: _die_with_a_work_folder()


def _die_with_a_work_folder() -> None:
    (RUN / ".export-of-a-killed-process").mkdir()
    die()


def fill_the_disk() -> None:
    """No file can grow past 20,000 bytes: a checkpoint is larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def take_away_the_folder() -> None:
    """It must not be written to; logs, which are there, may."""
    for file in RUN.rglob("*"):
        file.chmod(0o777 if file.is_dir() else 0o666)
    RUN.chmod(0o555)
    if os.geteuid() == 0:  # whom no mode stops
        os.seteuid(65534)


def run(place: Path, args: list[str], sabotage: Callable[[], None] | None = None) -> tuple[int, str]:
    """Exit code, or minus the signal; and what was printed."""
    process = processes.Process(target=_child, args=(place, args, sabotage))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode, (place / "output").read_text(encoding="utf-8")


def _child(place: Path, args: list[str], sabotage: Callable[[], None] | None) -> None:
    os.chdir(place)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    if sabotage is not None:
        sabotage()
    main(args)


def new_place(folder: Path, short_list: Path) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(short_list, folder / "names.txt")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, short_list: Path) -> Path:
    """A run never stopped."""
    place = new_place(tmp_path_factory.mktemp("whole"), short_list)
    code, printed = run(place, FIT)
    assert code == 0, printed
    return place


def expect_the_same(whole: Path, place: Path) -> None:
    assert load("stress_kill").differences(whole, place, RUN) == []


@pytest.mark.parametrize(
    ("sabotage", "by"),
    [
        (partial(at_step, 13, die), "last"),
        (partial(at_step, 10, die, "validation_step"), f"{RUN}/last.ckpt"),
        (die_while_writing, "last"),
        (partial(die_after_best, 8), "last"),
        (die_in_export, "last"),
    ],
    ids=["in a step", "in validation", "while writing", "between best and last", "in export"],
)
def test_a_killed_run_is_resumed_bit_for_bit(
    sabotage: Callable[[], None], by: str, whole: Path, tmp_path: Path, short_list: Path
) -> None:
    place = new_place(tmp_path, short_list)
    assert run(place, FIT, sabotage)[0] == -signal.SIGKILL
    code, printed = run(place, [*FIT, "--ckpt_path", by])
    assert code == 0, printed
    expect_the_same(whole, place)


def test_a_run_of_steps_killed_in_its_export_is_resumed(tmp_path: Path, short_list: Path) -> None:
    """It has no step left when it is resumed, and ends within an epoch."""
    fit = [*FIT, "--trainer.max_epochs", "null", "--trainer.max_steps", "17"]
    whole, place = (new_place(tmp_path / name, short_list) for name in ("whole", "killed"))
    assert run(whole, fit)[0] == 0
    assert run(place, fit, die_in_export)[0] == -signal.SIGKILL
    assert torch.load(place / RUN / "last.ckpt", weights_only=True)["global_step"] == 17
    code, printed = run(place, [*fit, "--ckpt_path", "last"])
    assert code == 0, printed
    expect_the_same(whole, place)


def test_a_run_killed_between_its_first_checkpoints_is_resumed(
    whole: Path, tmp_path: Path, short_list: Path
) -> None:
    place = new_place(tmp_path, short_list)
    options = ["--checkpoint.every_n_train_steps", "null"]
    assert run(place, [*FIT, *options], partial(die_after_best, -1))[0] == -signal.SIGKILL
    assert [file.name for file in (place / RUN).glob("*.ckpt")] == ["best.ckpt"]
    code, printed = run(place, [*FIT, "--ckpt_path", "last"])
    assert code == 0, printed
    expect_the_same(whole, place)


def test_the_same_seed_gives_the_same_bits_and_a_killed_beginning_is_begun_again(
    whole: Path, tmp_path: Path, short_list: Path
) -> None:
    place = new_place(tmp_path, short_list)
    assert run(place, FIT, partial(at_step, 1, die))[0] == -signal.SIGKILL
    assert (place / RUN / "config.yaml").is_file()
    code, printed = run(place, FIT)
    assert code == 0, printed
    expect_the_same(whole, place)
    code, printed = run(place, [*FIT, "--overwrite", "true", "--seed_everything", "7"])
    assert code == 0, printed
    found = load("stress_kill").differences(whole, place, RUN)
    assert "last.ckpt/state_dict/net.layers.linear_1.weight" in found
    assert "metrics.csv" in found


def test_the_order_of_the_data_is_part_of_the_checkpoint(
    whole: Path, tmp_path: Path, short_list: Path
) -> None:
    """The seed that a run is resumed with changes nothing but the names that are printed in the end."""
    place = new_place(tmp_path, short_list)
    assert run(place, FIT, partial(at_step, 13, die))[0] == -signal.SIGKILL
    code, printed = run(place, [*FIT, "--ckpt_path", "last", "--seed_everything", "7"])
    assert code == 0, printed
    found = load("stress_kill").differences(whole, place, RUN)
    assert found == ["the names and figures that are printed"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_present_step_and_says_how_to_resume(
    number: int, whole: Path, tmp_path: Path, short_list: Path
) -> None:
    place = new_place(tmp_path, short_list)
    every = ["--checkpoint.every_n_train_steps", "1000"]
    ended, printed = run(place, [*FIT, *every], partial(at_step, 10, partial(send, number)))
    assert ended == 128 + number, printed
    [error] = re.findall(r"^makemore: error: (.*)$", printed, re.MULTILINE)
    assert re.fullmatch("interrupted at step 11; resume with: makemore fit --config .* --ckpt_path .*", error)
    assert torch.load(place / RUN / "last.ckpt", weights_only=True)["global_step"] == 11
    ended, printed = run(place, ["fit", *shlex.split(error.rpartition("makemore fit")[2])])
    assert ended == 0, printed
    expect_the_same(whole, place)


def test_a_signal_ends_a_run_that_is_evaluated_after_each_step(tmp_path: Path, short_list: Path) -> None:
    place = new_place(tmp_path, short_list)
    press_ctrl_c = partial(at_step, 10, partial(send, signal.SIGINT))
    code, printed = run(place, [*FIT, "--trainer.val_check_interval", "1"], press_ctrl_c)
    assert code == 130, printed
    assert "interrupted at step 11" in printed


def terminate_in_the_export() -> None:
    original = export.prove

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        send(signal.SIGTERM)
        return original(*args, **kwargs)

    export.prove = interrupted


@pytest.mark.parametrize(
    ("sabotage", "code"),
    [
        (partial(at_step, ANY, partial(send, signal.SIGINT), "test_step"), 130),
        (partial(at_step, ANY, partial(send, signal.SIGTERM), "test_step"), 143),
        (terminate_in_the_export, 143),
    ],
)
def test_a_signal_after_training_is_said(
    sabotage: Callable[[], None], code: int, whole: Path, tmp_path: Path, short_list: Path
) -> None:
    place = new_place(tmp_path, short_list)
    ended, printed = run(place, FIT, sabotage)
    assert ended == code, printed
    [error] = re.findall(r"^makemore: error: (.*)$", printed, re.MULTILINE)
    assert error == "interrupted"
    assert not list((place / RUN).glob(".export-*"))
    for _ in range(2):  # also a run that has ended
        code, printed = run(place, [*FIT, "--ckpt_path", "last"])
        assert code == 0, printed
        expect_the_same(whole, place)


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [(fill_the_disk, "File too large"), (take_away_the_folder, "Permission denied")],
)
def test_a_checkpoint_that_cannot_be_written_is_an_error_at_once(
    sabotage: Callable[[], None], reason: str, whole: Path, tmp_path: Path, short_list: Path
) -> None:
    place = new_place(tmp_path, short_list)
    place.chmod(0o755)
    code, printed = run(place, FIT, partial(at_step, 10, sabotage))
    (place / RUN).chmod(0o755)
    assert code == 2, printed
    assert "Traceback" not in printed
    [error] = re.findall(r"^makemore: error: (.*)$", printed, re.MULTILINE)
    assert error == f"{RUN}/last.ckpt: cannot be written ({reason}); the earlier one stays"
    assert torch.load(place / RUN / "last.ckpt", weights_only=True)["global_step"] == 10
    assert not list((place / RUN).glob(".*.part"))
    code, printed = run(place, [*FIT, "--ckpt_path", "last"])
    assert code == 0, printed
    expect_the_same(whole, place)


def test_what_is_written_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    atomic.write_whole(file, b"old")

    def refuse(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(atomic.os, "fsync", refuse)  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="No space left"):
            atomic.write_whole(file, b"new")
        with pytest.raises(CheckpointError, match=r"No space left.*; the earlier one stays"):
            saving.AtomicCheckpointIO().save_checkpoint({}, file)
        with pytest.raises(CheckpointError, match=r"No space left on device\)$"):
            saving.AtomicCheckpointIO().save_checkpoint({}, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_bytes() == b"old"
    (tmp_path / ".file.part").write_bytes(b"of a killed process, and longer")
    atomic.write_whole(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_killed_beginning_gives_back_what_it_was_to_replace(cwd: Path) -> None:
    good = Path("checkpoints/mine/best.ckpt")
    good.parent.mkdir(parents=True)
    good.write_text("good")
    with ExitStack() as held:  # a process that is killed lets go of its lock, and does nothing more
        folder = claim_run(held, "mine", "list", overwrite=True)
    (folder / "config.yaml").write_text("")
    assert not good.exists()
    with ExitStack() as held, pytest.raises(RequestError, match="mine exists"):
        claim_run(held, "mine", "list")
    assert good.read_text() == "good"
    with ExitStack() as held:  # another name is not taken by what was abandoned
        assert claim_run(held, None, "list").name == "list"
    (cwd / "checkpoints" / "list" / "metrics.csv").write_text("")
    with ExitStack() as held:
        assert claim_run(held, None, "list").name == "list"
    (cwd / "checkpoints" / "list" / "notes.txt").write_text("a file of the user's")
    with ExitStack() as held:
        assert claim_run(held, None, "list").name == "list-2"


def test_last_is_not_an_older_run_when_the_newest_was_killed_at_its_beginning(cwd: Path) -> None:
    for name in ("old", "new"):
        Path("checkpoints", name).mkdir(parents=True)
    Path("checkpoints/old/last.ckpt").write_text("")
    os.utime("checkpoints/old/last.ckpt", (1, 1))
    for file in (None, "config.yaml"):  # killed before and after it has written its first file
        if file is not None:
            Path("checkpoints/new", file).write_text("")
        with pytest.raises(RequestError, match="checkpoints/new has no checkpoint yet"):
            resolve_checkpoint("last", None)
    assert resolve_checkpoint("last", "old") == Path("checkpoints/old/last.ckpt")
    Path("checkpoints/new/last.ckpt").write_text("")
    assert resolve_checkpoint("last", None) == Path("checkpoints/new/last.ckpt")


def test_a_folder_that_has_been_moved_keeps_its_best_score(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_text("")
    here, elsewhere = saving.RunCheckpoint(str(tmp_path)), saving.RunCheckpoint(str(tmp_path / "new"))
    for checkpoints in (here, elsewhere):
        checkpoints.load_state_dict({"best_score": 2.1})
        checkpoints.on_fit_start(trainer(), LitBatchNormMLP(27, 3))
    assert here.best_score == 2.1
    assert elsewhere.best_score is None  # its own best is still to come
