"""BatchNorm's statistics over the whole training set, in place of the running ones.

This is algorithm 2 of Ioffe & Szegedy 2015. It is not left to `torch.optim.swa_utils.update_bn`, which takes
the mean of single batches' variances, so that what the batches differ by is left out; which normalises the
layers below by each batch's own statistics, not by those that they end up with; which runs Dropout; and which
knows nothing of ranks. Here the layers are taken one after the other, each above layers that are already done
and as in evaluation, and its sums run over all examples of all ranks. What comes out depends on neither
batches nor ranks nor random numbers.

Most examples share their context with others: each different context is computed once, and counted as often
as it stands in the training set.

Notation: N examples, U different contexts among them, T block_size, H width of a layer.
"""

from collections.abc import Callable, Iterable

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import (
    _BatchNorm,
)  # the base of BatchNorm1d, SyncBatchNorm and Lightning's own

from makemore_pl.errors import RequestError
from makemore_pl.training.batches import Batch
from makemore_pl.training.module import LitBatchNormMLP

CHUNK = 16_384
"""Contexts computed at a time."""
SumOverRanks = Callable[[Tensor], Tensor]
"""Adds up a tensor over all ranks, each of which calls it in its turn."""


def different_contexts(batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Each context once, int64 (U, T), and how often it stands there, float64 (U,)."""
    contexts = torch.cat([contexts for contexts, _ in batches])  # (N, T)
    vocab_size = int(contexts.max()) + 1
    # Contexts numbered column by column: `unique` over whole rows would take a hundred times as long.
    number = torch.zeros(len(contexts), dtype=torch.long, device=contexts.device)  # (N,)
    for column in contexts.T:
        _, number = torch.unique(number * vocab_size + column, return_inverse=True)
    counts = torch.bincount(number)  # (U,)
    different = contexts.new_empty((len(counts), contexts.shape[1]))
    different[number] = contexts  # (N, T) -> (U, T): those of one number are equal
    return different, counts.double()


@torch.no_grad()
def recalibrate(
    layers: nn.Sequential, contexts: Tensor, counts: Tensor, sum_over_ranks: SumOverRanks = lambda sums: sums
) -> None:
    """Set the running mean and variance of each BatchNorm to those of its input over all examples.

    Args:
        layers: of a `BatchNormMLP`; they are left in the mode that they were in.
        contexts: this rank's share of the training set, int64 (U, T).
        counts: how often each stands there, float64 (U,).
        sum_over_ranks: with several ranks, what adds up over them.
    """
    was_training = layers.training
    layers.eval()
    for depth, norm in enumerate(layers):
        if isinstance(norm, _BatchNorm):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            n, total, total_of_squares = sum_over_ranks(_sums(layers[:depth], contexts, counts))
            mean = total / n
            norm.running_mean.copy_(mean)
            # Unbiased, as BatchNorm's own running variance is.
            norm.running_var.copy_((total_of_squares / n - mean**2) * n / (n - 1))
    layers.train(was_training)


def _sums(below: nn.Module, contexts: Tensor, counts: Tensor) -> Tensor:
    """Σ 1, Σ x and Σ x² of what `below` computes from all examples, float64 (3, H)."""
    sums = torch.zeros((), dtype=torch.float64, device=contexts.device)
    for start in range(0, len(contexts), CHUNK):
        chunk, weights = contexts[start : start + CHUNK], counts[start : start + CHUNK]  # (u, T), (u,)
        x = below(chunk).double()  # (u, H); the square of a mean cancels in float64, not in float32
        sums = sums + torch.stack([weights.sum().expand(x.shape[1]), weights @ x, weights @ x.square()])
    return sums


class RecalibrateBatchNorm(Callback):
    """Recalibrates before each validation of a fit, so that what is validated and saved has it.

    Weights are not touched, nor is anything that training reads: it goes on as it would have without. The
    training set is that of the Trainer's data module, as it comes from a `train_dataloader()` of its own;
    with several ranks each takes its share, and their sums are added up.

    Raises:
        RequestError: the fit has no data module.
    """

    def __init__(self) -> None:
        self._examples: tuple[Tensor, Tensor] | None = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        assert isinstance(pl_module, LitBatchNormMLP)
        if self._examples is None:
            data: L.LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
            if data is None:
                raise RequestError("recalibration reads the training set from a data module; fit with one")
            # A loader of its own, so that the one in use keeps its place; it yields this rank's share.
            self._examples = different_contexts(data.train_dataloader())
        recalibrate(
            pl_module.net.layers,
            *self._examples,
            sum_over_ranks=lambda sums: trainer.strategy.reduce(sums, reduce_op="sum"),
        )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._examples = None
