"""A network's predictions on the test split, as CSV."""

import csv
from typing import TextIO

import torch
from torch import Tensor

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.vocabulary import BOUNDARY


def write_predictions(outputs: list[Tensor], data: NamesDataModule, file: TextIO) -> None:
    """Write `context,next,probability,likeliest` for each example, as CSV.

    Args:
        outputs: log-probabilities (B, V) of the batches of `data.predict_dataloader()`, float.
        data: the data whose test split they belong to.
        file: the CSV file, open for writing.
    """
    log_probs = torch.cat(outputs).float()  # (N, V)
    contexts, targets = data.examples("test")
    texts = ["", *data.vocabulary.characters]  # by id; the boundary is empty
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("context", "next", "probability", "likeliest"))
    for context, target, log_prob in zip(contexts.tolist(), targets.tolist(), log_probs, strict=True):
        shown = "".join(texts[token] for token in context if token != BOUNDARY)
        probability, likeliest = log_prob[target].exp().item(), int(log_prob.argmax())
        writer.writerow((shown, texts[target], f"{probability:.6f}", texts[likeliest]))
