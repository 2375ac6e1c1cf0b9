"""BatchNorm's statistics over the whole training set, in place of the running ones.

This is algorithm 2 of Ioffe & Szegedy 2015. `torch.optim.swa_utils.update_bn` is not used: it takes the mean
of single batches' variances, which leaves out how the batches differ; it normalises the layers below by each
batch's own statistics, not by the final ones; it runs Dropout; and it knows nothing of ranks. Here the layers
are taken one after the other. Each sees the layers below it in eval mode, with their final statistics, and
its sums run over all examples of all ranks. The result depends on neither batches nor ranks nor random
numbers.

Notation: N examples, H width of a layer.
"""

from collections.abc import Callable, Iterable

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from makemore_pl.data.batch import Batch
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import RequestError
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import is_batch_norm


@torch.no_grad()
def recalibrate(
    layers: nn.Sequential,
    batches: Iterable[Batch],
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> None:
    """Set the running mean and variance of each BatchNorm to those of its input over all examples.

    Args:
        layers: of a `BatchNormMLP`; they stay in the mode they are in.
        batches: this rank's share of the training set. Iterated over once for each BatchNorm.
        sum_over_ranks: adds up a tensor over all ranks.
    """
    was_training = layers.training
    layers.eval()
    for depth, norm in enumerate(layers):
        if is_batch_norm(norm):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, variance = _moments(layers[:depth], batches, sum_over_ranks)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
    layers.train(was_training)


def _moments(
    below: nn.Module, batches: Iterable[Batch], sum_over_ranks: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance, float64 (H,), of what `below` computes from all examples."""
    sums: Tensor | None = None
    for batch in batches:
        # Rows as training sees them, merged ones too, because training normalises over those.
        variance, mean = torch.var_mean(below(batch.contexts), dim=0, correction=0)  # (B, H) -> (H,), (H,)
        mean = mean.double()
        # Σ 1, Σ x, Σ x² of the batch: the square of a mean cancels in float64, not in float32.
        batch_sums = len(batch) * torch.stack([torch.ones_like(mean), mean, variance + mean**2])  # (3, H)
        sums = batch_sums if sums is None else sums + batch_sums
    if sums is None:
        raise ValueError("no batches: at least one is needed for statistics")
    n, total, total_of_squares = sum_over_ranks(sums)
    mean = total / n
    # Unbiased, as BatchNorm's own running variance is.
    return mean, (total_of_squares / n - mean**2) * n / (n - 1)


class RecalibrateBatchNorm(Callback):
    """Recalibrates before each validation of a fit, so that the new statistics are validated and saved.

    Training is not disturbed: in train mode a BatchNorm does not read its running statistics, and
    recalibration draws no random numbers.

    Args:
        on_one_rank: recalibrate on a single rank, too. With several it is always done: each has running
            statistics of its own share of the batches, and would otherwise validate another model.

    Raises:
        RequestError: the fit has no `NamesDataModule`.
    """

    def __init__(self, on_one_rank: bool = True) -> None:
        self.on_one_rank = on_one_rank

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if trainer.world_size == 1 and not self.on_one_rank:
            return
        assert isinstance(pl_module, LitBatchNormMLP)
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, NamesDataModule):
            raise RequestError("recalibration reads the training set from a NamesDataModule; fit with one")
        recalibrate(
            pl_module.net.layers,
            data.training_pass(),
            sum_over_ranks=lambda sums: trainer.strategy.reduce(sums, reduce_op="sum"),
        )
