"""Training steps a second by threads, and by how long they wait for each other awake, on a busy machine too.

GOMP_SPINCOUNT is read when PyTorch is loaded, so each measurement has a process of its own. Other work on the
machine is played by processes that count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import lightning as L
import torch

from makemore_pl.data.batches import BatchLoader
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.parsing.config_files import shipped

BEST = shipped("best")
NETWORKS: dict[str, tuple[int, int, dict[str, Any]]] = {
    # name: block size, steps, network
    "default": (3, 200, {}),
    "best": (BEST["data"]["block_size"], 20, BEST["model"]),
}
SPINS = (None, 100, 1_000, 10_000)
"""Turns of a loop that a thread makes before it goes to sleep; None: as OpenMP decides."""
BUSY = (0, 1, 2)
"""Processes that want a core at the same time."""


def steps_per_second(block_size: int, steps: int, network: dict[str, Any]) -> float:
    """Of plain training steps of a network, data and optimiser included."""
    L.seed_everything(42, verbose=False)
    data = NamesDataModule(block_size=block_size)
    stream = torch.from_numpy(data.corpus.streams["train"])
    model = LitBatchNormMLP(data.vocab_size, block_size, **network).net
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    start, done = 0.0, -3  # some steps to warm up
    while True:
        for batch in BatchLoader(stream, block_size, data.batch_size, seed=42):
            if done == 0:
                start = time.perf_counter()
            if done == steps:
                return steps / (time.perf_counter() - start)
            loss = batch.nll(model(batch.contexts).log_softmax(dim=1)) / batch.mean_weight
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
            optimizer.step()
            done += 1


def in_new_process(threads: int, spin: int | None) -> dict[str, float]:
    """Steps a second of each network."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = str(spin)
    command = [sys.executable, __file__, "--measure"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    speeds: dict[str, float] = json.loads(done.stdout)
    return speeds


def report(repetitions: int, threads: int) -> None:
    """One table for each number of busy processes."""
    settings = [(1, None), *((threads, spin) for spin in SPINS)]
    for busy in BUSY:
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            measured = [[in_new_process(*setting) for setting in settings] for _ in range(repetitions)]
        finally:
            for other in others:
                other.kill()
        for (n, spin), runs in zip(settings, zip(*measured, strict=True), strict=True):
            medians = [statistics.median(run[name] for run in runs) for name in NETWORKS]
            spun = "default" if spin is None else f"{spin:,}"
            print(
                f"| {busy} | {n} | {spun} | {' | '.join(f'{speed:.0f}' for speed in medians)} |", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3, help="measurements, of which the median counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="compared with one")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps({name: steps_per_second(*network) for name, network in NETWORKS.items()}))
        return
    print(f"| busy processes | threads | spin count | {' | '.join(NETWORKS)} |\n|---:|---:|---:|---:|---:|")
    report(args.repetitions, args.threads)


if __name__ == "__main__":
    main()
