"""`makemore validate`, `test` and `predict`: a checkpoint's figures, and its predictions as CSV."""

import csv
import sys
from typing import Any, TextIO

import torch
from torch import Tensor

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import RequestError
from makemore_pl.parsing.lightning_cli import MakemoreCLI
from makemore_pl.parsing.training_errors import explained
from makemore_pl.vocabulary import BOUNDARY


class EvaluateCLI(MakemoreCLI):
    """The commands `validate`, `test` and `predict`, each the Trainer's method of that name."""

    def evaluate(self, **kwargs: Any) -> Any:
        with explained(self.name, self.started, self.source):
            return getattr(self.trainer, self.name)(**kwargs)

    validate = test = evaluate

    def predict(self, **kwargs: Any) -> None:
        """Write every example of the test split with what the network expects, as CSV on stdout."""
        if self.trainer.world_size > 1:
            raise RequestError("predict: predictions come in order from one device; set trainer.devices to 1")
        write_predictions(self.evaluate(**kwargs), self.datamodule, sys.stdout)


def write_predictions(outputs: list[Tensor], data: NamesDataModule, file: TextIO) -> None:
    """Write `context,next,probability,likeliest` for each example, as CSV; with labels, `label` comes first.

    The outputs are log-probabilities (B, V) of the batches of `data.predict_dataloader()`.
    """
    log_probs = torch.cat(outputs).float()  # (N, V)
    contexts, targets = data.examples("test")
    texts = ["", *data.vocabulary.characters, *data.labels]  # by id; the boundary is empty
    n_labels = contexts.shape[1] - data.block_size  # 0 or 1
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((*["label"] * n_labels, "context", "next", "probability", "likeliest"))
    for context, target, log_prob in zip(contexts.tolist(), targets.tolist(), log_probs, strict=True):
        labels = [texts[token] for token in context[:n_labels]]
        shown = "".join(texts[token] for token in context[n_labels:] if token != BOUNDARY)
        probability, likeliest = log_prob[target].exp().item(), int(log_prob.argmax())
        writer.writerow((*labels, shown, texts[target], f"{probability:.6f}", texts[likeliest]))
