"""Training of the lectures' BatchNorm-MLP: their loop, a hand-written loop with our recipe, and our Trainer.

All on the makemore list with the lectures' split. Every way runs in a process of its own, in turns, so that
other load slows all alike; the lectures' 200,000 steps are cut into as many parts as there are turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint

from makemore_pl.studies.lectures import NotebookTraining
from makemore_pl.studies.loop import LECTURE_SEED
from makemore_pl.training.batches import Windows
from makemore_pl.training.datamodule import NamesDataModule
from makemore_pl.training.loggers import run_loggers
from makemore_pl.training.model import BatchNormMLP
from makemore_pl.training.module import LitBatchNormMLP, one_cycle

TARGET = 2.1048
"""Dev NLL that the lectures' 200,000 steps reached."""
NOTEBOOK_STEPS = 200_000
EPOCHS = 15
Figures = dict[str, float]


def notebook(device: str, folder: Path, steps: int) -> Figures:
    """(a) Some of the lectures' steps of 32, from raw tensors; goes on where the last part stopped."""
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
        "examples": steps * 32,
        "dev": training.evaluate(data.examples("dev")),
        "test": training.evaluate(data.examples("test")),
    }


def hand_written(device: str, folder: Path, steps: int) -> Figures:
    """(b) Our recipe as a plain PyTorch loop: dev at the end of each epoch, no logging, no checkpoints."""
    L.seed_everything(42, verbose=False)
    data = NamesDataModule("makemore", dedupe=False)
    splits = {split: _to(device, data.examples(split)) for split in ("train", "dev", "test")}
    contexts, targets = splits["train"]
    model = BatchNormMLP(data.vocab_size, data.block_size).to(device)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=0.02,
        fused=True,
    )
    n_batches = -(-len(targets) // data.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: one_cycle(step / (EPOCHS * n_batches), warmup=0.4)
    )
    reached = 0
    start = time.perf_counter()
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(len(targets), device=device)
        for i in order.tensor_split(n_batches):
            loss = F.cross_entropy(model(contexts[i]), targets[i])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        dev = _evaluate(model, splits["dev"])
        if dev <= TARGET and not reached:
            reached = epoch * n_batches
    seconds = seconds_since(start)
    return {
        "seconds": seconds,
        "examples": EPOCHS * len(targets),
        "dev": dev,
        "test": _evaluate(model, splits["test"]),
        "reached": reached,
    }


def trainer(device: str, folder: Path, steps: int) -> Figures:
    """(c) What `makemore fit` sets up, with logging, progress bar and checkpoints."""
    L.seed_everything(42, verbose=False)
    data = NamesDataModule("makemore", dedupe=False)
    module = LitBatchNormMLP(data.vocab_size, data.block_size)
    reached = ReachedTarget()
    fitter = L.Trainer(
        max_epochs=EPOCHS,
        accelerator=device,
        num_sanity_val_steps=0,
        logger=run_loggers(folder, 0),
        callbacks=[
            ModelCheckpoint(dirpath=folder, filename="best", monitor="val/nll", save_last=True),
            reached,
        ],
    )
    start = time.perf_counter()
    fitter.fit(module, datamodule=data)
    seconds = seconds_since(start)
    return {
        "seconds": seconds,
        "examples": EPOCHS * len(data.corpus.streams["train"]),
        "dev": fitter.callback_metrics["val/nll"].item(),
        "test": fitter.test(module, datamodule=data, verbose=False)[0]["test/nll"],
        "reached": reached.step,
    }


class ReachedTarget(L.Callback):
    """Remembers the first step whose validation reached the lectures' figure."""

    step = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.step and trainer.callback_metrics["val/nll"] <= TARGET:
            self.step = trainer.global_step


WAYS: dict[str, Callable[[str, Path, int], Figures]] = {
    "notebook": notebook,
    "hand-written": hand_written,
    "trainer": trainer,
}


@torch.no_grad()
def _evaluate(model: BatchNormMLP, examples: Windows) -> float:
    model.eval()
    nll = F.cross_entropy(model(examples[0]), examples[1]).item()
    model.train()
    return nll


def _to(device: str, examples: Windows) -> Windows:
    torch_device = torch.device("cuda" if device == "gpu" else device)
    return examples[0].to(torch_device), examples[1].to(torch_device)


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
    """(d) Seconds from start to exit of `makemore fit`, tests, proof, exports and plots included."""
    command = [sys.executable, "-m", "makemore_pl", "fit", "--config", "makemore", "--run", "bench"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    start = time.perf_counter()
    command += ["--overwrite", "true", "--trainer.accelerator", device]
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
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
    examples = {way: runs[-1]["examples"] for way, runs in measured.items()}
    examples["notebook"] = sum(part["examples"] for part in parts)
    names = {"notebook": "lectures' loop", "hand-written": "hand-written loop", "trainer": "Trainer"}
    print("| | seconds | examples/s | steps to dev 2.1048 | dev | test | peak, MiB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way, runs in measured.items():
        last = runs[-1]
        reached = f"{last['reached']:,.0f}" if last.get("reached") else "—"
        print(
            f"| {names[way]} | {seconds[way]:.2f} | {examples[way] / seconds[way]:,.0f} | {reached} "
            f"| {last['dev']:.4f} | {last['test']:.4f} | {last['peak_mib']:,.0f} |"
        )
    process = statistics.median(processes)
    print(f"| `makemore fit` from start to exit | {process:.2f} | | | | | |\n")
    print(f"lectures' loop / Trainer: {seconds['notebook'] / seconds['trainer']:.1f}")
    print(f"lectures' loop / whole process: {seconds['notebook'] / process:.1f}")
    print(f"Trainer / hand-written loop: {seconds['trainer'] / seconds['hand-written']:.2f}")
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
