"""Run by test_distributed.py on several ranks: trains, evaluates, and saves what each rank has found.

python tests/runs/ranks.py LIST FOLDER WORLD_SIZE
torchrun --nproc-per-node 3 tests/runs/ranks.py LIST FOLDER 3
"""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import torch

from makemore_pl.cli import end_process
from makemore_pl.data.batch import Batch
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.recalibration import RecalibrateBatchNorm


class Recorder(L.Callback):
    """Which examples a rank is trained on, epoch by epoch, and what its random numbers are."""

    def __init__(self) -> None:
        self.seen: list[Counter[tuple[tuple[int, ...], int]]] = []
        self.random: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.append(Counter())

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, i: int
    ) -> None:
        for row, target, weight in zip(
            batch.rows.tolist(), batch.targets.tolist(), batch.weights.tolist(), strict=True
        ):
            self.seen[-1][tuple(batch.contexts[row].tolist()), target] += weight

    def on_train_batch_end(self, *args: Any) -> None:
        self.random.append(torch.rand(()).item())


def main() -> None:
    file, folder, world_size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0)))
    found: dict[str, Any] = {}

    def trainer(**options: Any) -> L.Trainer:
        return L.Trainer(
            accelerator="cpu",
            devices=world_size,
            strategy="ddp",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **options,
        )

    def data(**options: int) -> NamesDataModule:
        return NamesDataModule(str(file), block_size=3, batch_size=32, **options)

    def model(**options: Any) -> LitBatchNormMLP:
        return LitBatchNormMLP(data().vocab_size, 3, n_embd=10, n_hidden=20, **options)

    # Ranks with seeds of their own, as without seed_everything: order and weights are rank 0's all the same.
    torch.manual_seed(rank)
    recorder = Recorder()
    plain = model(batch_norm=False, init_seed=1, weight_decay=0.0)
    torch.manual_seed(rank)
    trainer(max_steps=100, callbacks=[recorder]).fit(plain, datamodule=data())
    found["weights"], found["seen"] = plain.state_dict(), recorder.seen

    L.seed_everything(3)
    recorder = Recorder()
    normed = model(dropout=0.2)
    fit = trainer(max_epochs=2, callbacks=[recorder, RecalibrateBatchNorm(on_one_rank=False)])
    fit.fit(normed, datamodule=data())
    found["normed"], found["random"] = normed.state_dict(), recorder.random

    # The same weights for any number of ranks, with losses far apart.
    spread = model(batch_norm=False, init="normal", output_gain=None, init_seed=2)
    # Batches that do not come out even; a last one with less than one context for each rank.
    for eval_batch_size in (1, 7, 16384):
        evaluated = data(eval_batch_size=eval_batch_size)
        [dev] = trainer().validate(spread, datamodule=evaluated, verbose=False)
        [test] = trainer().test(spread, datamodule=evaluated, verbose=False)
        found[f"figures {eval_batch_size}"] = {**dev, **test}
    found["threads"] = torch.get_num_threads()
    torch.save(found, folder / f"{world_size}-{rank}.pt")


if __name__ == "__main__":
    main()
    end_process(0)
