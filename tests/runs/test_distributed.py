"""Several ranks on CPUs, as Lightning starts them, and as torchrun does on one machine and on two."""

import csv
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers import QUICK, ROOT, RunCommand

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import RequestError
from makemore_pl.parsing.option_checks import expect_all_processes
from makemore_pl.parsing.training_errors import is_lost_process
from makemore_pl.runtime.sampler import Sampler

RANKS = ROOT / "tests" / "runs" / "ranks.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
TIMEOUT = 240  # seconds; against waiting for ever


def environment(**variables: str) -> dict[str, str]:
    """Without what would settle the number of threads, or pass for a launcher."""
    kept = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def start(*command: object, folder: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    return process.returncode, out, err


Found = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def tiny_list(list_of_all_letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 names: 6 to validate, with 40 contexts."""
    file = tmp_path_factory.mktemp("lists") / "tiny.txt"
    file.write_text("".join(list_of_all_letters.read_text().splitlines(keepends=True)[:60]))
    return file


@pytest.fixture(scope="module")
def found(tiny_list: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What ranks.py saves: one process; two as Lightning starts them; three as torchrun does."""
    folder = tmp_path_factory.mktemp("ranks")
    launchers = {1: [sys.executable], 2: [sys.executable], 3: [*TORCHRUN, "--nproc-per-node", 3]}
    for world_size, launcher in launchers.items():
        code, _, err = finish(start(*launcher, RANKS, tiny_list, folder, world_size, folder=folder))
        assert code == 0, err
    return {n: [torch.load(folder / f"{n}-{rank}.pt") for rank in range(n)] for n in (1, 2, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_example_once_in_each_epoch_over_the_ranks(
    found: Found, tiny_list: Path, world_size: int
) -> None:
    data = NamesDataModule(str(tiny_list))
    wanted: Counter[tuple[tuple[int, ...], int]] = Counter()
    for name in data.corpus.names("train"):
        ids = [0, 0, 0, *data.vocabulary.encode(name).tolist(), 0]
        wanted.update((tuple(ids[i : i + 3]), ids[i + 3]) for i in range(len(name) + 1))
    # The last epoch ends with the 100th step.
    for epochs in list(zip(*(rank["seen"] for rank in found[world_size]), strict=True))[:-1]:
        seen: Counter[tuple[tuple[int, ...], int]] = Counter()
        for counts in epochs:
            seen.update(counts)
        assert seen.keys() == wanted.keys()
        assert all(seen[example] == pytest.approx(wanted[example], abs=1e-5) for example in wanted)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_without_batch_norm_the_weights_are_those_of_one_rank(found: Found, world_size: int) -> None:
    [one] = found[1]
    moved = False
    for rank in found[world_size]:
        for name, weight in one["weights"].items():
            torch.testing.assert_close(rank["weights"][name], weight, rtol=0, atol=1e-5)
            moved = moved or not torch.equal(rank["weights"][name], weight)
    assert moved, "equal bit for bit: the ranks cannot have shared the work"


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("eval_batch_size", [1, 7, 16384])
def test_figures_are_exact_for_any_number_of_ranks_and_any_remainder(
    found: Found, world_size: int, eval_batch_size: int
) -> None:
    [one] = found[1]
    for rank in found[world_size]:
        for name in ("val/nll", "test/nll"):
            figure = rank[f"figures {eval_batch_size}"][name]
            assert figure == pytest.approx(one["figures 1"][name], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_with_batch_norm_every_rank_ends_with_the_same_model(found: Found, world_size: int) -> None:
    first, *others = found[world_size]
    for other in others:
        assert all(torch.equal(other["normed"][name], tensor) for name, tensor in first["normed"].items())


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_draw_dropout_of_their_own(found: Found, world_size: int) -> None:
    assert all(found[world_size][0]["random"])
    for drawn in zip(*(rank["random"] for rank in found[world_size]), strict=True):
        assert len(set(drawn)) == world_size


@pytest.mark.slow
def test_threads_are_divided_among_the_ranks_of_a_machine(found: Found) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert all(rank["threads"] <= max(1, (os.cpu_count() or 1) // 2) for rank in found[2])
    assert all(rank["threads"] == 1 for rank in found[3])
    assert found[1][0]["threads"] <= max(cores, os.cpu_count() or 1)


FIT = ("-m", "makemore_pl", "fit", *QUICK, "--data.batch_size", "64", "--run", "shared")


@pytest.mark.slow
def test_two_machines_write_what_one_process_writes(
    short_list: Path, run_folder: Path, tmp_path: Path, makemore: RunCommand
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = []
    for node in (0, 1):
        folder = tmp_path / f"node-{node}"
        folder.mkdir()
        launcher = (*TORCHRUN, "--nnodes", 2, "--node-rank", node, "--nproc-per-node", 1)
        address = ("--master-addr", "127.0.0.1", "--master-port", port)
        options = ("--trainer.num_nodes", 2, "--trainer.devices", 1, "--data.path", short_list)
        command = (*launcher, *address, "-m", "--", *FIT[1:], *options)
        nodes.append(start(*command, folder=folder, OMP_NUM_THREADS="1"))
    (code, out, err), (other_code, other_out, other_err) = map(finish, nodes)
    assert (code, other_code) == (0, 0), err + other_err
    assert "model:" in out
    assert other_out == ""
    assert list((tmp_path / "node-1").iterdir()) == []
    run = tmp_path / "node-0" / "checkpoints" / "shared"
    assert {file.name for file in run.iterdir()} == {file.name for file in run_folder.iterdir()}
    assert [file.name for file in run.parent.iterdir()] == ["shared"]
    with (run / "metrics.csv").open() as ours, (run_folder / "metrics.csv").open() as theirs:
        assert [row["step"] for row in csv.DictReader(ours)] == [
            row["step"] for row in csv.DictReader(theirs)
        ]
    assert len(Sampler(run).sample(5)) == 5
    alone = makemore("test", "--ckpt_path", run / "best.ckpt", *QUICK[2:]).succeeds()
    said = out.split("dev, ")[1].split(" test")[0]
    assert said in f"{float(alone.out.split('test/nll')[1].split()[1]):.4f}"
    makemore("verify", run / "sampler.onnx", run / "best.ckpt").succeeds()


@pytest.mark.slow
def test_a_rank_that_is_lost_is_one_line_and_the_checkpoint_stays(short_list: Path, tmp_path: Path) -> None:
    options = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.path", short_list)
    fit = start(
        sys.executable, *FIT, *options, "--trainer.max_epochs", 100_000, folder=tmp_path, OMP_NUM_THREADS="1"
    )
    last = tmp_path / "checkpoints" / "shared" / "last.ckpt"
    deadline = time.monotonic() + TIMEOUT
    while not last.is_file() and fit.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    [child] = children_of(fit.pid)
    os.kill(child, signal.SIGKILL)
    code, _, err = finish(fit)
    assert code != 0
    assert "Traceback" not in err, err
    torch.load(last, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_several_ranks_that_are_evaluated_often(
    short_list: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Each step on which they agree whether to stop is one that an evaluation follows, or would end an epoch
    after 20 of them at the earliest.
    """
    n_examples = len(NamesDataModule(str(short_list)).corpus.streams["train"])
    steps_of_epoch, batch_size = next(
        (steps, size) for size in range(8, 50) if math.gcd(steps := -(-n_examples // size), 20) == 1
    )
    options = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.path", short_list)
    endless = ("--trainer.max_epochs", "null", "--trainer.max_steps", 10_000_000)
    often = ("--trainer.val_check_interval", 20, "--trainer.check_val_every_n_epoch", "null")
    sizes = ("--data.merge", "false", "--data.batch_size", batch_size)
    command = (sys.executable, *FIT, *options, *endless, *often, *sizes)
    fit = start(*command, folder=tmp_path, OMP_NUM_THREADS="1")
    last = tmp_path / "checkpoints" / "shared" / "last.ckpt"
    deadline = time.monotonic() + TIMEOUT
    while not last.is_file() and fit.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    before = torch.load(last, weights_only=True)["global_step"]
    for process in (*children_of(fit.pid), fit.pid):
        os.kill(process, number)
    code, _, err = finish(fit)
    assert code == 128 + number, err
    assert "resume with: makemore fit" in err
    assert torch.load(last, weights_only=True)["global_step"] < before + 10 * steps_of_epoch


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and that run Python."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, listed) if b"python" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
def test_batches_too_small_for_the_ranks_are_refused_by_all_of_them(short_list: Path, tmp_path: Path) -> None:
    options = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.path", short_list)
    fit = start(sys.executable, *FIT, *options, "--data.batch_size", 3, folder=tmp_path, OMP_NUM_THREADS="1")
    code, _, err = finish(fit)
    assert code == 2
    assert "a batch of 1 contexts for each rank" in err
    assert "Traceback" not in err
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("variables", "options", "message"),
    [
        ({"WORLD_SIZE": "2"}, {}, "torchrun has started 2 processes"),
        ({"WORLD_SIZE": "2"}, {"devices": 1, "num_nodes": 1}, "torchrun has started 2 processes"),
        ({}, {"devices": 2, "num_nodes": 2}, "start each by torchrun or under Slurm"),
    ],
)
def test_mixed_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: dict[str, int], message: str
) -> None:
    if variables:
        ranks = {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
        elastic = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
        for name, value in {**ranks, **elastic, **variables}.items():
            monkeypatch.setenv(name, value)
    trainer = L.Trainer(accelerator="cpu", logger=False, **options)
    with pytest.raises(RequestError, match=message):
        expect_all_processes(trainer)


def test_slurm_tasks_are_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}
    for name, value in {**tasks, "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=r"Slurm has started 4 processes.*1 × 1"):
        expect_all_processes(L.Trainer(accelerator="cpu", logger=False, devices=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trainer.accelerator", "gpu"), "gpu"),
        (("--trainer.accelerator", "cuda", "--trainer.devices", "2"), "CUDAAccelerator"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices_that_are_not_there(
    makemore: RunCommand,
    short_list: Path,
    cwd: Path,
    options: tuple[str, ...],
    message: str,
) -> None:
    makemore("fit", "--data.path", short_list, *options).fails_with(message)
    assert not (cwd / "checkpoints").exists()


def test_predictions_come_from_one_device(makemore: RunCommand, run_folder: Path) -> None:
    two = ("--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.strategy", "ddp")
    makemore("predict", "--ckpt_path", run_folder / "best.ckpt", *two).fails_with("one device")


def test_lost_processes_are_told_from_other_errors() -> None:
    assert is_lost_process(
        RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection")
    )
    assert is_lost_process(torch.distributed.DistNetworkError("the store is gone"))
    assert not is_lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


LAST_MESSAGE = """
import atexit, sys
import torch.distributed
from makemore_pl.cli import end_process

atexit.register(print, "shut down")
print("last words")
if sys.argv[1] == "rank":
    torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=0, world_size=1)
end_process(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "said"), [("rank", "last words\n"), ("alone", "last words\nshut down\n")])
def test_a_rank_ends_without_shutting_python_down(tmp_path: Path, kind: str, said: str) -> None:
    """Gloo's threads would now and then abort the process meanwhile, and its exit code be lost."""
    code, out, err = finish(
        start(sys.executable, "-c", LAST_MESSAGE, kind, tmp_path / "store", folder=tmp_path)
    )
    assert (code, out) == (3, said), err
