"""What `makemore lr-find` should suggest: fits whose highest rate is a multiple of its valley's middle.

A sweep holds each rate for a step; a cycle comes to its peak slowly and leaves it again, and bears more. NLL
of dev after `makemore fit`'s 300 steps, mean of the seeds, less the lowest of the row; by list, and for the
first list by other networks and batches.
"""

import argparse
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runs.lr_find import SweepTrainer
from makemore_pl.runs.rounds import STEPS

MULTIPLES = (1.0, 2.0, 2.5, 3.0, 4.0)
SWEEP_STEPS = 1_000
"""As `makemore lr-find` has by default."""
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "": ({}, {}),
    "batches of 128": ({"batch_size": 128}, {}),
    "context 6, 100 hidden": ({"block_size": 6}, {"n_hidden": 100}),
    "3 layers of 100": ({}, {"n_hidden": 100, "n_layers": 3}),
}
"""Other arguments of data and network."""
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

Arguments = tuple[str, dict[str, Any], dict[str, Any]]
"""Path of the list; arguments of the data, and of the network."""


def made(arguments: Arguments, seed: int, **options: Any) -> tuple[NamesDataModule, LitBatchNormMLP]:
    """Data and module, as the program makes them."""
    path, of_data, of_network = arguments
    L.seed_everything(seed, verbose=False)
    data = NamesDataModule(path, **of_data)
    return data, LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples, **of_network, **options)


def middle_of_valley(arguments: Arguments, seed: int, folder: Path) -> float:
    """The middle of the valley that a sweep finds."""
    data, module = made(arguments, seed)
    trainer = SweepTrainer(max_epochs=-1, max_steps=SWEEP_STEPS, default_root_dir=folder, **QUIET)
    sweep = trainer.lr_find(module, datamodule=data, steps=SWEEP_STEPS)
    return sweep.middle


def dev_nll(arguments: Arguments, seed: int, peak: float) -> float:
    """Dev NLL after a run with this highest rate."""
    data, module = made(arguments, seed, lr=peak)
    trainer = L.Trainer(max_steps=STEPS, max_epochs=-1, limit_val_batches=0, **QUIET)
    trainer.fit(module, datamodule=data)
    [figures] = L.Trainer(**QUIET).validate(module, datamodule=data, verbose=False)
    return float(figures["val/nll"])


def rows(lists: list[str], seeds: list[int]) -> Iterator[list[str]]:
    """A row of the table for each list and each variant of the first."""
    cases = [(name, (lists[0], *variant)) for name, variant in VARIANTS.items()]
    cases += [("", (path, *VARIANTS[""])) for path in lists[1:]]
    with TemporaryDirectory() as folder:
        for name, arguments in cases:
            what = ", ".join(filter(None, (Path(arguments[0]).stem, name)))
            losses, middles = [], []
            for seed in track(seeds, description=what, transient=True, console=Console(stderr=True)):
                middles.append(middle_of_valley(arguments, seed, Path(folder)))
                losses.append([dev_nll(arguments, seed, factor * middles[-1]) for factor in MULTIPLES])
            means = np.mean(losses, axis=0)
            middle = float(np.exp(np.log(middles).mean()))
            yield [what, f"{middle:.2g}", f"{means.min():.4f}", *(f"{x:.4f}" for x in means - means.min())]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lists", nargs="*", default=["names"], help="files, or names, or makemore")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    args = parser.parse_args()
    torch.set_num_threads(1)  # with which these networks train fastest
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(f"| list | middle | lowest | {' | '.join(f'× {factor:g}' for factor in MULTIPLES)} |")
    print("|---|" + "---:|" * (2 + len(MULTIPLES)))
    for row in rows(args.lists, args.seeds):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
