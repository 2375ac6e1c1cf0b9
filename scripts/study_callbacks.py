"""What recalibrating BatchNorm brings on dev, what it, diagnostics and Lightning itself cost.

Times are those of the processor, so that other work on the machine counts little.

MAKEMORE_DATA_DIR=... python scripts/study_callbacks.py
"""

import argparse
import copy
import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.optim.swa_utils import update_bn

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.inspect.diagnostics import Diagnostics
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.model.recalibration import RecalibrateBatchNorm, recalibrate
from makemore_pl.report.likelihoods import nll

DEEP = {"n_hidden": 100, "n_layers": 5, "norm_output": True, "output_gain": 0.1}
RECIPES: dict[str, tuple[int, int, dict[str, Any]]] = {
    # name: batch size, steps, network
    "makemore": (1024, 800, {}),
    "deep": (1024, 800, DEEP),
    "makemore, batches of 32": (32, 2000, {}),
}


def fit(recipe: str, seed: int, *callbacks: Callback) -> tuple[LitBatchNormMLP, NamesDataModule, float]:
    """A trained module, its data, and the CPU seconds that training took."""
    batch_size, steps, network = RECIPES[recipe]
    L.seed_everything(seed, verbose=False)
    data = NamesDataModule("makemore", batch_size=batch_size, dedupe=False)
    module = LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples, **network)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_steps=steps,
            max_epochs=-1,
            val_check_interval=100,
            check_val_every_n_epoch=None,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            log_every_n_steps=1_000,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=list(callbacks),
        )
        start = time.process_time()
        trainer.fit(module, datamodule=data)
        return module, data, time.process_time() - start


def compare_statistics(recipe: str, seed: int) -> str:
    """One row: dev NLL with running statistics, with update_bn's and with recalibrated ones."""
    module, data, _ = fit(recipe, seed)
    contexts, targets = data.examples("dev")
    ways: dict[str, Callable[[BatchNormMLP], None]] = {
        "running": lambda net: None,
        "update_bn": lambda net: update_bn((batch.contexts for batch in data.training_pass()), net),
        "recalibrated": lambda net: recalibrate(net.layers, data.training_pass()),
    }
    cells = []
    for change in ways.values():
        net = copy.deepcopy(module.net)
        start = time.process_time()
        change(net)
        seconds = time.process_time() - start
        cells.append(f"{nll(net.eval(), contexts, targets):.5f} | {seconds:.2f}")
    return f"| {recipe} | {seed} | {cells[0].partition(' |')[0]} | {cells[1]} | {cells[2]} |"


def compare_costs(recipe: str, repetitions: int) -> list[str]:
    """Rows: median CPU seconds of a fit without callback and with each, taken in turns."""
    makers: dict[str, Callable[[], list[Callback]]] = {
        "without": list,
        "recalibration every 100 steps": lambda: [RecalibrateBatchNorm()],
        "diagnostics every 50 steps": lambda: [Diagnostics(50, plots=False)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for repetition in range(repetitions):
        for name, make in makers.items():
            seconds[name].append(fit(recipe, repetition, *make())[2])
    base = statistics.median(seconds["without"])
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return [
        f"| {recipe} | {name} | {taken:.2f} | {taken / base - 1:+.0%} |" for name, taken in medians.items()
    ]


class Empty(L.LightningModule):
    """A module with nothing to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        return self.number.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


class Clock(Callback):
    """Notes the processor time after each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.times.append(time.process_time())


def empty_step() -> float:
    """Median CPU milliseconds of a step of an empty module: the floor of any training with Lightning."""
    clock = Clock()
    trainer = L.Trainer(
        max_steps=2_000,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(Empty(), torch.utils.data.DataLoader(list(range(2_000)), batch_size=None))  # type: ignore[arg-type]
    return 1_000 * statistics.median(after - before for before, after in itertools.pairwise(clock.times))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="fits of each recipe")
    seeds = parser.parse_args().seeds
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print(f"a step of an empty module: {empty_step():.2f} ms\n")
    print("| recipe | seed | running | update_bn | CPU s | recalibrated | CPU s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for recipe in RECIPES:
        for seed in range(1, seeds + 1):
            print(compare_statistics(recipe, seed), flush=True)
    print("\n| recipe | callback | fit, CPU s | |\n|---|---|---:|---:|")
    for recipe in ("makemore", "deep"):
        print("\n".join(compare_costs(recipe, seeds)), flush=True)


if __name__ == "__main__":
    main()
