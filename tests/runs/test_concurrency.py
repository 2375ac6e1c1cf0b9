"""Processes and threads at the same time: no mixed files, no deadlock, no wrong names."""

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

import pytest
from helpers import QUICK, ROOT, RunCommand, assert_one_line_error

from makemore_pl import Sampler, Scorer
from makemore_pl.export import export as export_module
from makemore_pl.export.export import export_checkpoint
from makemore_pl.exported.metadata import INFO_FILE, MODEL_FILE, REPORT_FILE, SAMPLER_FILE
from makemore_pl.runs.locks import HeldError, hold
from makemore_pl.runs.run_folder import claim_run, hold_run
from makemore_pl.scoring.scorer import Score

FILES = (MODEL_FILE, SAMPLER_FILE, INFO_FILE, REPORT_FILE)
SECONDS = 120
"""Long enough for any machine; only a deadlock takes longer."""


def start(*args: str, folder: Path) -> subprocess.Popen[str]:
    """A Python of its own that knows the package."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *args], cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def in_children(n: int, function: Callable[[int], object]) -> list[object]:
    """Results of `function(i)`, each in a process forked from this one, all at the same time."""
    context = multiprocessing.get_context("fork")
    results, together = context.Queue(), context.Barrier(n)

    def run(i: int) -> None:
        together.wait(SECONDS)
        results.put(function(i))
        together.wait(SECONDS)  # so that nobody's locks end with its process before all are done

    children = [context.Process(target=run, args=(i,)) for i in range(n)]
    for child in children:
        child.start()
    found = [results.get(timeout=SECONDS) for _ in children]
    for child in children:
        child.join(SECONDS)
        assert child.exitcode == 0
    return found


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
ignore_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.mark.slow
def test_two_fits_of_one_name(makemore: RunCommand, short_list: Path, tmp_path: Path) -> None:
    """One trains, the other says why it does not."""
    options = (*QUICK, "--export.enabled", "false", "--trainer.max_epochs", "1", "--overwrite", "true")
    command = ("-m", "makemore_pl", "fit", "--data.path", str(short_list), "--run", "same", *options)
    processes = [start(*command, folder=tmp_path) for _ in range(2)]
    ends = [(process.communicate(timeout=SECONDS)[1], process.returncode) for process in processes]
    assert 0 in [code for _, code in ends]
    for err, code in ends:  # the second may have come after the first had ended, and replaced it
        assert code in (0, 2)
        if code == 2:
            assert_one_line_error(err, "checkpoints/same: another process is at work there")
    runs = tmp_path / "checkpoints"
    assert [path.name for path in runs.iterdir()] == ["same"]  # no locks, and no run that was replaced
    rows = (runs / "same" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3  # of one run: the head, an epoch, and the test
    makemore("export", runs / "same" / "best.ckpt").succeeds()


@forks
@ignore_threads
def test_runs_without_a_name_get_folders_of_their_own(cwd: Path) -> None:
    """Eight processes claim ten runs each, all at once."""

    held = ExitStack()  # in each process its own, for as long as it lives

    def claim(_: int) -> list[str]:
        return [claim_run(held, None, "list").name for _ in range(10)]

    names = [name for claimed in in_children(8, claim) for name in claimed]  # type: ignore[attr-defined]
    assert len(set(names)) == len(names) == 80
    assert {path.name for path in Path("checkpoints").iterdir() if path.is_dir()} == set(names)


def test_a_run_at_work_is_not_overwritten_or_resumed(
    makemore: RunCommand, run_folder: Path, short_list: Path, cwd: Path
) -> None:
    folder = Path("checkpoints/mine")
    shutil.copytree(run_folder, folder)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    options = ("--data.path", short_list, "--run", "mine", *QUICK)
    with ExitStack() as held:
        hold_run(held, folder)
        for args in (("--overwrite", "true"), ("--ckpt_path", "last")):
            makemore("fit", *options, *args).fails_with("checkpoints/mine: another process is at work there")
        assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    makemore("fit", *options, "--overwrite", "true", "--export.enabled", "false").succeeds()
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_lock_ends_with_its_process(cwd: Path) -> None:
    """A process that is killed leaves a lock file, but no lock."""
    code = (
        "from contextlib import ExitStack; from pathlib import Path; import os, signal\n"
        "from makemore_pl.runs.run_folder import claim_run\n"
        "held = ExitStack(); claim_run(held, 'mine', 'list')\n"
        "print('held', flush=True); input()\n"
    )
    process = start("-c", code, folder=cwd)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
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


@pytest.mark.slow
@forks
@ignore_threads
def test_two_exports_into_one_folder(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four processes, five rounds: after each, the files are all of one export."""
    out = tmp_path / "out"
    replace = Path.replace

    def slowly(file: Path, target: Path) -> Path:
        time.sleep(0.001)  # long enough for another export to come between
        return replace(file, target)

    def export(writer: int) -> None:
        def write(work: Path, *_: object) -> None:
            for name in FILES:
                (work / name).write_text(str(writer))

        monkeypatch.setattr(export_module, "_write", write)
        monkeypatch.setattr(Path, "replace", slowly)
        export_checkpoint(run_folder / "best.ckpt", out)

    for _ in range(5):
        in_children(4, export)
        assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
        assert len({(out / name).read_text() for name in FILES}) == 1


@pytest.mark.slow
def test_an_export_while_others_read(run_folder: Path, tmp_path: Path) -> None:
    """Readers see the old file or the new one, never a part of one."""
    for name in (*FILES, "best.ckpt"):
        shutil.copy(run_folder / name, tmp_path)
    expected = Sampler(tmp_path).sample(50, seed=1)
    done = threading.Event()

    def read_until_done(reader: Callable[[], object]) -> int:
        reads = 0
        while not done.is_set() or reads == 0:
            assert reader() == expected
            reads += 1
            time.sleep(0.01)
        return reads

    readers = [
        lambda: Sampler(tmp_path, prepare=False).sample(50, seed=1),
        lambda: Sampler(tmp_path / "model.onnx").sample(50, seed=1),
    ]
    old = (tmp_path / "sampler.onnx").stat().st_ino
    with ThreadPoolExecutor(2) as pool:
        counts = [pool.submit(read_until_done, reader) for reader in readers]
        try:
            export_checkpoint(tmp_path / "best.ckpt", form="fused")
        finally:
            done.set()
        assert all(count.result(timeout=SECONDS) > 0 for count in counts)
    assert (tmp_path / "sampler.onnx").stat().st_ino != old


@forks
@ignore_threads
def test_a_fork_after_use(run_folder: Path) -> None:
    """Sampler and Scorer opened and used, then forked: the children's names and scores are the parent's."""
    sampler, scorer = Sampler(run_folder), Scorer(run_folder)
    names = sampler.sample(3_000, seed=1)  # enough for threads
    scores = scorer.score(names[:50])

    def same(_: int) -> bool:
        again = sampler.sample(3_000, seed=1) == names and scorer.score(names[:50]) == scores
        return again and Sampler(run_folder).sample(3_000, seed=1) == names

    assert in_children(4, same) == [True] * 4


def test_one_sampler_and_one_scorer_in_many_threads(run_folder: Path) -> None:
    """Sixteen threads, each its own seed: every one gets what it gets alone."""
    sampler, scorer = Sampler(run_folder), Scorer(run_folder)

    def names_and_scores(seed: int) -> tuple[list[str], list[Score]]:
        names = sampler.sample(300, seed=seed)
        return names, scorer.score(names)

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(names_and_scores, range(48)))
    assert together == [names_and_scores(seed) for seed in range(48)]
