"""Lists from 10^4 to 10^7 different names: time and memory to open them, size on disk, speed of training."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lightning as L
import torch
from rich.progress import track

from makemore_pl.data.batch import Batch
from makemore_pl.data.corpus_cache import open_corpus
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.data.lists import find_list
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runtime.sampler import Sampler

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
WARM_UP, TIMED = 100, 600
"""Training steps before the clock starts, and under it."""


def write_lists(model: str, sizes: list[int], folder: Path) -> list[Path]:
    """Lists of different made-up names; each is the beginning of the next."""
    files = [folder / f"{size}.txt" for size in sizes]
    outputs = [file.open("w", encoding="utf-8") for file in files]
    written = 0
    batches = Sampler(model).stream(max(sizes), seed=1, unique=True)
    for batch in track(batches, description="writing names", total=None, transient=True):
        for size, output in zip(sizes, outputs, strict=True):
            output.writelines(f"{name}\n" for name in batch.names[: max(0, size - written)])
        written += len(batch.names)
    for output in outputs:
        output.close()
    return files


def measure_opening(file: Path) -> dict[str, float]:
    """Seconds and peak memory until the three splits can be read."""
    open_corpus(find_list("names"), dedupe=True, seed=42)  # what any first call takes
    before = peak_mib()
    start = time.perf_counter()
    corpus = open_corpus(find_list(str(file)), dedupe=True, seed=42)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "characters": sum(map(len, corpus.streams.values())),
        "before_mib": before,
        "peak_mib": peak_mib(),
    }


class Clock(L.Callback):
    """Examples per second of the steps after the warm-up."""

    start = seconds = 0.0
    examples = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        assert isinstance(batch, Batch)
        if trainer.global_step == WARM_UP:
            self.start = time.perf_counter()
        elif trainer.global_step > WARM_UP:
            self.examples += int(batch.weights.sum())
            self.seconds = time.perf_counter() - self.start


def measure_training(file: Path) -> dict[str, float]:
    """Examples per second of the default recipe, and the process's peak memory."""
    L.seed_everything(42, verbose=False)
    data = NamesDataModule(str(file))
    module = LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples)
    clock = Clock()
    trainer = L.Trainer(
        max_steps=WARM_UP + TIMED,
        accelerator="cpu",
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(module, datamodule=data)
    return {"examples_per_second": clock.examples / clock.seconds, "peak_mib": peak_mib()}


def peak_mib() -> float:
    """The most memory that this process has held, mapped files included (Linux)."""
    # Not getrusage: its maximum is handed down from the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024  # given in KiB


def in_new_process(step: str, file: Path, cache: Path) -> dict[str, float]:
    """One of the measurements above, so that peaks of memory are its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, __file__, "--step", step, str(file)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="an exported model that writes the lists")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="names in each list")
    parser.add_argument("--repetitions", type=int, default=3, help="measurements, of which the median counts")
    parser.add_argument("--step", choices=("open", "train"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        measure = {"open": measure_opening, "train": measure_training}[args.step]
        print(json.dumps(measure(Path(args.source))))
        return

    print(
        "| names | characters | list, MB | first opening, s | ns a character | peak, MiB | again, s "
        "| cache, MB | training, examples/s | peak, MiB |"
    )
    print("|---:|" + "---:|" * 9)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for size, file in zip(args.sizes, write_lists(args.source, args.sizes, folder), strict=True):
            first, again, training = [], [], []
            for repetition in range(args.repetitions):
                cache = folder / f"cache-{size}-{repetition}"
                first.append(in_new_process("open", file, cache))
                again.append(in_new_process("open", file, cache))
                training.append(in_new_process("train", file, cache))
            cached = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file())
            seconds, characters = median(first, "seconds"), first[0]["characters"]
            print(
                f"| {size:,} | {characters:,} | {file.stat().st_size / 1e6:.1f} | {seconds:.2f} "
                f"| {seconds / characters * 1e9:,.0f} | {median(first, 'peak_mib'):,.0f} "
                f"| {median(again, 'seconds'):.3f} | {cached / 1e6:.1f} "
                f"| {median(training, 'examples_per_second'):,.0f} | {median(training, 'peak_mib'):,.0f} |",
                flush=True,
            )
    print(
        f"\n{torch.get_num_threads()} threads; peaks include {first[0]['before_mib']:,.0f} MiB of libraries."
    )


def median(figures: list[dict[str, float]], name: str) -> float:
    return sorted(figure[name] for figure in figures)[len(figures) // 2]


if __name__ == "__main__":
    main()
