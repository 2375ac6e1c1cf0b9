"""Processes and threads at the same time: no mixed files, no deadlock, no wrong names."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import onnx
import pytest
from conftest import QUICK, RunCommand
from test_cli import assert_one_line_error

from makemore_pl import Sampler, Scorer
from makemore_pl.export.export import export_checkpoint
from makemore_pl.training.locks import HeldError, hold
from makemore_pl.training.runs import claim_run, hold_run

SECONDS = 120
"""Long enough for any machine; reached only by a deadlock."""


def start(*args: object, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "makemore_pl", *map(str, args)]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def test_two_fits_of_one_name(makemore: RunCommand, short_list: Path, tmp_path: Path) -> None:
    """One trains, the other says why it does not; without a name, each gets a folder of its own."""
    named = ("fit", "--data.path", short_list, "--run", "same", "--overwrite", "true", *QUICK)
    unnamed = ("fit", "--data.path", short_list, "--export.enabled", "false", *QUICK)
    processes = [start(*args, folder=tmp_path) for args in (named, named, unnamed, unnamed)]
    ends = [finish(process) for process in processes]
    codes = [code for code, _, _ in ends]
    assert 0 in codes[:2]
    for code, _, err in ends[:2]:  # the second may have come after the first had ended, and replaced it
        assert code in (0, 2)
        if code == 2:
            assert_one_line_error(err, "checkpoints/same: another process is at work there")
    assert codes[2:] == [0, 0]
    runs = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert runs == ["same", "short", "short-2"]  # no locks, nothing put aside
    same = tmp_path / "checkpoints" / "same"
    assert makemore("verify", same / "model.onnx", same / "best.ckpt").code == 0
    metrics = [(tmp_path / "checkpoints" / run / "metrics.csv").read_text() for run in runs]
    assert metrics[0] == metrics[1] == metrics[2]  # each as if it had been alone


def test_a_run_at_work_is_not_overwritten_or_gone_on_with(
    makemore: RunCommand, run_folder: Path, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("checkpoints/mine")
    shutil.copytree(run_folder, folder)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    options = ("--data.path", short_list, "--run", "mine", *QUICK)
    with ExitStack() as held:
        hold_run(held, folder)
        for args in (("--overwrite", "true"), ("--ckpt_path", "last")):
            result = makemore("fit", *options, *args)
            assert result.code == 2
            assert_one_line_error(result.err, "checkpoints/mine: another process is at work there")
        assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    assert makemore("fit", *options, "--overwrite", "true", "--export.enabled", "false").code == 0
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_a_lock_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed leaves a lock file, but no lock."""
    code = (
        "from contextlib import ExitStack; from pathlib import Path; import os, signal\n"
        "from makemore_pl.training.runs import claim_run\n"
        "held = ExitStack(); claim_run(held, 'mine', 'list')\n"
        "print('held', flush=True); input()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HeldError), ExitStack() as held:
        claim_run(held, "mine", "list", overwrite=True)
    with ExitStack() as held:  # a run without a name takes another number
        assert claim_run(held, None, "mine").name == "mine-2"
    process.kill()
    process.communicate(timeout=SECONDS)
    assert Path("checkpoints/.mine.lock").exists()
    with ExitStack() as held:
        claim_run(held, "mine", "list", overwrite=True)
    assert not Path("checkpoints/.mine.lock").exists()


def test_locks_hand_over_without_two_holders(tmp_path: Path) -> None:
    """Sixteen threads, twenty-five turns each on one lock whose file comes and goes: never two at a time."""
    inside = most = turns = 0
    counting = threading.Lock()

    def take_turns(_: int) -> None:
        nonlocal inside, most, turns
        for _ in range(25):
            with hold(tmp_path / ".lock", wait=-1, what=tmp_path):
                with counting:
                    inside += 1
                    most = max(most, inside)
                    turns += 1
                with counting:
                    inside -= 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(take_turns, range(16)))
    assert (most, turns) == (1, 400)
    assert list(tmp_path.iterdir()) == []


def test_two_exports_into_one_folder(run_folder: Path, tmp_path: Path) -> None:
    """Of two checkpoints, in two processes: the files are all of one of them, and proven."""
    out = tmp_path / "out"
    checkpoints = [run_folder / "best.ckpt", _other_checkpoint(run_folder, tmp_path / "other.ckpt")]
    processes = [start("export", file, "-o", out, folder=tmp_path) for file in checkpoints]
    seen = set()
    while any(process.poll() is None for process in processes):
        seen |= {path.name for path in out.glob("[!.]*")} if out.exists() else set()
        time.sleep(0.02)
    assert [finish(process)[0] for process in processes] == [0, 0]
    expected = {"model.onnx", "sampler.onnx", "verification.json"}
    assert {path.name for path in out.iterdir()} == expected >= seen
    assert len({_export_id(out / name) for name in ("model.onnx", "sampler.onnx")}) == 1


def _other_checkpoint(run_folder: Path, file: Path) -> Path:
    import torch

    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    content["state_dict"]["net.layers.output.bias"] += 0.01
    torch.save(content, file)
    return file


def _export_id(file: Path) -> str:
    metadata = {p.key: p.value for p in onnx.load(file).metadata_props}
    return str(json.loads(metadata["makemore.export_id"]))


def test_an_export_while_others_read(run_folder: Path, tmp_path: Path) -> None:
    """Readers see the old file or the new one, never a part of one."""
    shutil.copy(run_folder / "best.ckpt", tmp_path)
    export_checkpoint(tmp_path / "best.ckpt")
    expected = Sampler(tmp_path).sample(50, seed=1)
    done = threading.Event()

    def read_until_done(reader: Callable[[], object]) -> int:
        reads = 0
        while not done.is_set() or reads == 0:
            assert reader() == expected
            reads += 1
        return reads

    readers = [
        lambda: Sampler(tmp_path).sample(50, seed=1),
        lambda: Sampler(tmp_path / "sampler.onnx", prepare=False).sample(50, seed=1),
    ]
    with ThreadPoolExecutor(2) as pool:
        counts = [pool.submit(read_until_done, reader) for reader in readers]
        try:
            for form in ("table", "auto"):
                export_checkpoint(tmp_path / "best.ckpt", form=form)
        finally:
            done.set()
        assert all(count.result(timeout=SECONDS) > 0 for count in counts)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_after_use(run_folder: Path) -> None:
    """Sampler and Scorer opened and used, then forked: the children's names and scores are the parent's."""
    sampler, scorer = Sampler(run_folder), Scorer(run_folder)
    names = sampler.sample(3_000, seed=1)  # enough for threads
    scores = scorer.score(names[:50])
    context = multiprocessing.get_context("fork")
    results = context.Queue()

    def child() -> None:
        same = sampler.sample(3_000, seed=1) == names and scorer.score(names[:50]) == scores
        results.put(same and Sampler(run_folder).sample(3_000, seed=1) == names)

    children = [context.Process(target=child) for _ in range(4)]
    for process in children:
        process.start()
    assert [results.get(timeout=SECONDS) for _ in children] == [True] * 4
    for process in children:
        process.join(SECONDS)
        assert process.exitcode == 0


def test_one_scorer_in_many_threads(run_folder: Path) -> None:
    scorer = Scorer(run_folder)
    lists = [Sampler(run_folder).sample(200, seed=seed) for seed in range(16)]
    alone = [scorer.score(names) for names in lists]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(scorer.score, lists)) == alone
