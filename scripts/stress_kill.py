"""Kills a training at random instants, resumes it, and compares what comes out with a run never stopped.

    python scripts/stress_kill.py --kills 25 [--length steps] [--seed 0]

The i-th run is killed (SIGKILL) in the i-th part of a run's lifetime, from the first file it makes to the
names it prints, and resumed by --ckpt_path last; before its first checkpoint, by the same command. A
third of them are killed once more on their way. In the end checkpoints, metrics.csv, exported files and what
is printed must be the same bit for bit. Stops at the first difference, with exit code 1. Needs fork.
"""

import argparse
import mmap
import os
import random
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from makemore_pl.cli import main as makemore
from makemore_pl.commands import fit as fit_command
from makemore_pl.data.lists import find_list
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runs import checkpointing as saving

FIT = shlex.split("""
fit --data.path names.txt --run killed --data.batch_size 64 --model.n_hidden 32 --model.n_layers 2
--model.dropout 0.2 --checkpoint.every_n_train_steps 3
--trainer.log_every_n_steps 2 --trainer.accelerator cpu --trainer.enable_progress_bar false
--export.form fused
""")
LENGTHS = {
    "epochs": shlex.split("--trainer.max_epochs 12 --trainer.val_check_interval 8"),
    "steps": shlex.split("--trainer.max_steps 180 --trainer.val_check_interval 40"),
}
"""How the length of a run may be given, and its evaluations within an epoch or across epochs."""
RUN = Path("checkpoints") / "killed"
FILES = ("metrics.csv", "model.onnx", "sampler.onnx", "verification.json")
KILLED = -signal.SIGKILL

phase = mmap.mmap(-1, 32)
"""What a run is at; shared with the process that runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="runs that are killed")
    parser.add_argument("--length", choices=LENGTHS, default="epochs", help="in which it is given")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(stress(Path(folder), args.length, args.kills, random.Random(args.seed)))


def stress(folder: Path, length: str, kills: int, instants: random.Random) -> int:
    """Kill so many runs, each once or twice; returns the exit code."""
    fit = [*FIT, *LENGTHS[length]]
    names = find_list("names").names()[:600]
    watch()
    whole = new_place(folder / "whole", names)
    begun = time.monotonic()
    code, printed = run(whole, fit)
    lifetime = time.monotonic() - begun
    if code != 0:
        print(printed)
        return 1
    print(f"a run never stopped takes {lifetime:.1f} s")
    print(f"{'killed after':<13} {'during':<26} {'resumed from':<14} result")
    killed = attempts = 0
    while killed < kills:
        attempts += 1
        place = new_place(folder / str(attempts), names)
        moment = lifetime * (killed + instants.random()) / kills
        code, printed = run(place, fit, kill_after=moment)
        if code != KILLED:  # it has ended before: runs have become faster
            lifetime *= 0.95
            continue
        killed += 1
        print(f"{moment:10.2f} s  {current_phase():<26} {last_step(place):<14}", flush=True)
        if instants.random() < 1 / 3:
            moment = lifetime * instants.random()
            code, printed = run(place, [*fit, *resume(place)], kill_after=moment)
            if code == KILLED:
                print(f"{moment:10.2f} s  {current_phase():<26} {last_step(place):<14}", flush=True)
        if code == KILLED:
            code, printed = run(place, [*fit, *resume(place)])
        found = [printed] if code != 0 else differences(whole, place)
        print(f"{'':<54} {found[0] if found else 'the same'}", flush=True)
        if found:
            return 1
    print(f"no difference in {kills} runs that were killed")
    return 0


def new_place(folder: Path, names: list[str]) -> Path:
    """An empty working folder with the training list."""
    folder.mkdir()
    (folder / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def resume(place: Path) -> list[str]:
    """Options that resume what is there, if there is anything."""
    return ["--ckpt_path", "last"] if any((place / RUN).glob("*.ckpt")) else []


def run(place: Path, args: list[str], kill_after: float | None = None) -> tuple[int, str]:
    """Run the program in a process of its own: exit code, or minus the signal, and what it printed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.chdir(place)
            output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            makemore(args)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)  # still there, or waiting to be asked for its exit code
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, (place / "output").read_text(encoding="utf-8", errors="replace")


def differences(whole: Path, place: Path, run_folder: Path = RUN) -> list[str]:
    """What differs between a run never stopped and one that was."""
    found = []
    for name in ("best.ckpt", "last.ckpt"):
        states = [torch.load(each / run_folder / name, weights_only=True) for each in (whole, place)]
        for state in states:
            # Resuming names the characters and labels that are the list's own anyway.
            for name_of_own in ("characters", "labels"):
                state["datamodule_hyper_parameters"].pop(name_of_own)
            # Lightning's counters: a signal ends a round early, so that there is one more.
            del state["epoch"], state["loops"]
        found += differing(states[0], states[1], name)
    for name in FILES:
        if (whole / run_folder / name).read_bytes() != (place / run_folder / name).read_bytes():
            found.append(name)
    results = [result(each) for each in (whole, place)]
    if results[0] != results[1] or len(results[0]) != 4:
        found.append("the names and figures that are printed")
    return found + [f"{path.name} is left over" for path in (place / run_folder).glob(".*")]


def result(place: Path) -> list[str]:
    """The lines about the result: run, NLL, model, names."""
    lines = (place / "output").read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.startswith(("run:", "NLL:", "model:", "names:"))]


def differing(a: Any, b: Any, path: str) -> list[str]:
    """Where two nested states differ in a bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [each for key in a for each in differing(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [each for i, (x, y) in pairs for each in differing(x, y, f"{path}/{i}")]
    return [] if type(a) is type(b) and a == b else [path]


def last_step(place: Path) -> str:
    """The step from which the next process resumes."""
    if not resume(place):
        return "the beginning"
    file = place / RUN / "last.ckpt"
    file = file if file.is_file() else place / RUN / "best.ckpt"
    return f"step {torch.load(file, weights_only=True)['global_step']}"


def watch() -> None:
    """Have runs say what they are at."""
    told: list[tuple[Any, str, str]] = [
        (fit_command.FitCLI, "instantiate_classes", "start"),
        (LitBatchNormMLP, "training_step", "training"),
        (LitBatchNormMLP, "validation_step", "validation"),
        (LitBatchNormMLP, "test_step", "test"),
        (saving, "write_whole", "a checkpoint's writing"),
        (fit_command, "export_checkpoint", "export"),
        (fit_command.FitCLI, "after_fit", "figures and names"),
    ]
    for owner, name, text in told:
        setattr(owner, name, telling(getattr(owner, name), text))


def telling(function: Callable[..., Any], text: str) -> Callable[..., Any]:
    """The function, which says that it is at work."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before = phase[:]
        phase[:] = text.encode().ljust(len(phase))
        value = function(*args, **kwargs)
        if text != "training":  # with what follows it: the step, the loggers
            phase[:] = before
        return value

    return wrapped


def current_phase() -> str:
    """What the last process was at."""
    return phase[:].decode().strip("\0 ") or "start"


if __name__ == "__main__":
    main()
