"""Training of the lectures' BatchNorm-MLP: their loop, a hand-written loop with our recipe, and our Trainer.

All on the makemore list with the lectures' split. Every way runs in a process of its own, in turns, so that
other load slows all alike; the lectures' 200,000 steps are cut into as many parts as there are turns. A row
of merged contexts counts as the examples that it stands for. The last two ways are some steps of the network
of `best`, to tell what the Trainer costs where a step takes longer.
"""

import argparse
import contextlib
import csv
import itertools
import json
import math
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from makemore_pl.commands.fit import FitCLI
from makemore_pl.data.batches import BatchLoader
from makemore_pl.data.corpus import SPLITS
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.model.schedule import one_cycle
from makemore_pl.parsing.config_files import find_config, shipped
from makemore_pl.runs.metrics import METRICS_FILE
from makemore_pl.runs.rounds import STEPS, STEPS_BETWEEN_EVALUATIONS
from makemore_pl.studies.raw_tensors import NotebookTraining
from makemore_pl.studies.sgd import LECTURE_SEED

TARGET = 2.1048
"""Dev NLL that the lectures' 200,000 steps reached."""
NOTEBOOK_STEPS = 200_000


@dataclass(frozen=True)
class Recipe:
    """What is trained in our own two ways: shipped configurations, a later one over an earlier."""

    configs: tuple[str, ...]
    steps: int

    def data(self) -> NamesDataModule:
        return NamesDataModule(**self._section("data"))

    def module(self, data: NamesDataModule) -> LitBatchNormMLP:
        return LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples, **self._section("model"))

    def _section(self, name: str) -> dict[str, Any]:
        return {k: v for config in self.configs for k, v in shipped(config).get(name, {}).items()}


DEFAULT = Recipe(("makemore",), STEPS)
WIDE = Recipe(("makemore", "best"), 50)
Figures = dict[str, float]


def notebook(device: str, folder: Path, steps: int) -> Figures:
    """(a) Some of the lectures' steps of 32, from raw tensors; begins where the last call stopped."""
    data = NamesDataModule("makemore", dedupe=False)
    training = NotebookTraining(data.examples("train"), torch.Generator().manual_seed(LECTURE_SEED))
    state = folder / "notebook.pt"
    if state.is_file():
        training.load_state_dict(torch.load(state))
    start = time.perf_counter()
    training.advance(steps)
    seconds = seconds_since(start)
    torch.save(training.state_dict(), state)
    return {
        "seconds": seconds,
        "steps": steps,
        "examples_per_step": 32,
        "dev": training.evaluate(data.examples("dev")),
        "test": training.evaluate(data.examples("test")),
    }


def hand_written(device: str, recipe: Recipe) -> Figures:
    """(b) A recipe as a plain PyTorch loop: dev every 100 steps, no logging, no checkpoints."""
    L.seed_everything(42, verbose=False)
    data = recipe.data()
    start = time.perf_counter()  # as for the Trainer: the list is read, its batches are not made
    loaders = {
        split: BatchLoader(
            torch.from_numpy(data.corpus.streams[split]).to(_torch_device(device)),
            data.block_size,
            data.batch_size if split == "train" else data.eval_batch_size,
            seed=42 if split == "train" else None,
        )
        for split in SPLITS
    }
    module = recipe.module(data).to(_torch_device(device))  # for its arguments
    model = module.net.train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": module.weight_decay},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=module.lr,
        betas=module.betas,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: one_cycle(step / recipe.steps, module.warmup)
    )
    step = reached = 0
    dev = math.inf
    for number in itertools.count():
        for batch in loaders["train"].one_pass(number):
            log_probs = model(batch.contexts, by_member=True).log_softmax(dim=2).mean(dim=1)
            loss = batch.nll(log_probs) / batch.mean_weight
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
            optimizer.step()
            schedule.step()
            step += 1
            if step % STEPS_BETWEEN_EVALUATIONS == 0 or step == recipe.steps:
                dev = _evaluate(model, loaders["dev"])
                reached = reached or step * (dev <= TARGET)
            if step == recipe.steps:
                break
        if step == recipe.steps:
            break
    seconds = seconds_since(start)
    return {
        "seconds": seconds,
        "steps": recipe.steps,
        "examples_per_step": len(loaders["train"].stream) / len(loaders["train"]),
        "dev": dev,
        "test": _evaluate(model, loaders["test"]),
        "reached": reached,
    }


class TimedFit(FitCLI):
    """`makemore fit`, with the seconds that its Trainer takes."""

    seconds: float

    def fit(self, **kwargs: Any) -> None:
        start = time.perf_counter()
        super().fit(**kwargs)
        self.seconds = seconds_since(start)


def trainer(device: str, folder: Path, recipe: Recipe) -> Figures:
    """(c) `makemore fit` but for its export: all loggers and callbacks, progress bar and checkpoints."""
    options = [f"--config={find_config(name)}" for name in recipe.configs]
    options += [f"--trainer.max_steps={recipe.steps}", f"--trainer.accelerator={device}"]
    options += ["--trainer.enable_progress_bar=true", "--export.enabled=false", "--overwrite=true"]
    os.chdir(folder)
    fit = TimedFit("fit", options)
    assert fit.run_folder is not None
    with (fit.run_folder / METRICS_FILE).open(newline="") as file:
        logged = list(csv.DictReader(file))
    # A row's step is the last that was made, counted from 0.
    dev = {int(row["step"]) + 1: float(row["val/nll"]) for row in logged if row["val/nll"]}
    data = fit.datamodule
    return {
        "seconds": fit.seconds,
        "steps": recipe.steps,
        "examples_per_step": data.n_examples / len(data.training_pass()),
        "dev": list(dev.values())[-1],
        "test": fit.trainer.callback_metrics["test/nll"].item(),
        "reached": min((step for step, nll in dev.items() if nll <= TARGET), default=0),
    }


WAYS: dict[str, Callable[[str, Path, int], Figures]] = {
    "notebook": notebook,
    "hand-written": lambda device, folder, steps: hand_written(device, DEFAULT),
    "trainer": lambda device, folder, steps: trainer(device, folder, DEFAULT),
    "hand-written, wide": lambda device, folder, steps: hand_written(device, WIDE),
    "trainer, wide": lambda device, folder, steps: trainer(device, folder, WIDE),
}


@torch.no_grad()
def _evaluate(model: BatchNormMLP, batches: BatchLoader) -> float:
    model.eval()
    nll = sum(batch.nll(model(batch.contexts).log_softmax(dim=1)).item() for batch in batches)
    model.train()
    return nll / len(batches.stream)


def _torch_device(device: str) -> torch.device:
    return torch.device("cuda" if device == "gpu" else device)


def seconds_since(start: float) -> float:
    """Seconds on the clock once all work given to a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_new_process(way: str, device: str, folder: Path, steps: int) -> Figures:
    """One measurement, with the peak memory of its process."""
    command = [sys.executable, __file__, "--way", way, "--device", device, "--folder", str(folder)]
    command += ["--steps", str(steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def whole_process(device: str, folder: Path) -> float:
    """(d) Seconds from start to exit of `makemore fit`, tests, proof, exports and plots included.

    In a terminal of its own, so that the progress bar is on.
    """
    command = [sys.executable, "-m", "makemore_pl", "fit", "--config", "makemore", "--run", "bench"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command += ["--overwrite", "true", "--trainer.accelerator", device]
    terminal, its_end = pty.openpty()
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=its_end) as process:
        os.close(its_end)
        with contextlib.suppress(OSError):  # that nobody has it open any more
            while os.read(terminal, 1 << 16):
                pass
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start


def peak_mib() -> float:
    """The most memory that this process has held (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024  # given in KiB


def measure(way: str, device: str, folder: Path, steps: int) -> None:
    """Run one way in this process and print its figures."""
    figures = WAYS[way](device, folder, steps)
    print("\n" + json.dumps({**figures, "peak_mib": peak_mib()}))


def report(measured: dict[str, list[Figures]], processes: list[float]) -> None:
    """The table, and the ratios between its rows."""
    parts = measured["notebook"]
    seconds = {way: statistics.median(run["seconds"] for run in runs) for way, runs in measured.items()}
    seconds["notebook"] = sum(part["seconds"] for part in parts)
    steps = {way: runs[-1]["steps"] for way, runs in measured.items()}
    steps["notebook"] = sum(part["steps"] for part in parts)
    names = {"notebook": "lectures' loop"}
    print("| | seconds | steps | examples/s | steps to dev 2.1048 | dev | test | peak, MiB |")
    print("|---|" + "---:|" * 7)
    for way, runs in measured.items():
        last = runs[-1]
        speed = steps[way] * last["examples_per_step"] / seconds[way]
        reached = f"{last['reached']:,.0f}" if last.get("reached") else "—"
        print(
            f"| {names.get(way, way)} | {seconds[way]:.2f} | {steps[way]:,.0f} | {speed:,.0f} | {reached} "
            f"| {last['dev']:.4f} | {last['test']:.4f} | {last['peak_mib']:,.0f} |"
        )
    process = statistics.median(processes)
    print(f"| `makemore fit` from start to exit | {process:.2f} | | | | | | |\n")
    print(f"lectures' loop / Trainer: {seconds['notebook'] / seconds['trainer']:.1f}")
    print(f"lectures' loop / whole process: {seconds['notebook'] / process:.1f}")
    for recipe in ("", ", wide"):
        ratio = seconds[f"trainer{recipe}"] / seconds[f"hand-written{recipe}"]
        print(f"Trainer / hand-written loop{recipe}: {ratio:.2f}")
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5, help="turns, of which the median counts")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=NOTEBOOK_STEPS, help="steps of the lectures' loop")
    args = parser.parse_args()
    if args.way:
        measure(args.way, args.device, args.folder, args.steps)
        return
    measured: dict[str, list[Figures]] = {way: [] for way in WAYS}
    processes = []
    with tempfile.TemporaryDirectory() as temporary:
        for turn in range(args.repetitions):
            for way, runs in measured.items():
                print(f"turn {turn + 1} of {args.repetitions}: {way}", file=sys.stderr)
                runs.append(in_new_process(way, args.device, Path(temporary), args.steps // args.repetitions))
            processes.append(whole_process(args.device, Path(temporary)))
    report(measured, processes)


if __name__ == "__main__":
    main()
