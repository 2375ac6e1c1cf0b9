"""BatchNorm's statistics over the whole training set, in place of the running ones.

This is algorithm 2 of Ioffe & Szegedy 2015. It is not left to `torch.optim.swa_utils.update_bn`, which takes
the mean of single batches' variances, so that what the batches differ by is left out; which normalises the
layers below by each batch's own statistics, not by those that they end up with; which runs Dropout; and which
knows nothing of ranks. Here the layers are taken one after the other, each above layers that are already done
and as in evaluation, and its sums run over all examples of all ranks. What comes out depends on neither
batches nor ranks nor random numbers.

Notation: N examples, H width of a layer.
"""

from collections.abc import Callable, Iterable

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # the base of BatchNorm1d, SyncBatchNorm and Lightning's

from makemore_pl.data.batches import Batch
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import RequestError
from makemore_pl.model.module import LitBatchNormMLP


@torch.no_grad()
def recalibrate(
    layers: nn.Sequential,
    batches: Iterable[Batch],
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> None:
    """Set the running mean and variance of each BatchNorm to those of its input over all examples.

    One pass over the batches for each BatchNorm; only the layers below it are computed.

    Args:
        layers: of a `BatchNormMLP`; they are left in the mode that they were in.
        batches: this rank's share of the training set. Iterated over once for each BatchNorm.
        sum_over_ranks: adds up a tensor over all ranks.
    """
    was_training = layers.training
    layers.eval()
    for depth, norm in enumerate(layers):
        if isinstance(norm, _BatchNorm):
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
        # Rows as training sees them, merged ones too: that is what its statistics are of.
        variance, mean = torch.var_mean(below(batch.contexts), dim=0, correction=0)  # (B, H) -> (H,), (H,)
        mean, variance = mean.double(), variance.double()
        # Σ 1, Σ x, Σ x² of the batch: the square of a mean cancels in float64, not in float32.
        batch_sums = len(batch) * torch.stack([torch.ones_like(mean), mean, variance + mean**2])  # (3, H)
        sums = batch_sums if sums is None else sums + batch_sums
    if sums is None:
        raise ValueError("there are no batches to take statistics of")
    n, total, total_of_squares = sum_over_ranks(sums)
    mean = total / n
    # Unbiased, as BatchNorm's own running variance is.
    return mean, (total_of_squares / n - mean**2) * n / (n - 1)


class RecalibrateBatchNorm(Callback):
    """Recalibrates before each validation of a fit, so that what is validated and saved has it.

    Weights are not touched, nor is anything that training reads: it goes on as it would have without. The
    training set is that of the Trainer's data module, as it comes from a `train_dataloader()` of its own.

    Args:
        on_one_rank: false recalibrates only where there are several ranks: each has running statistics of its
            own share of the batches, and would validate another model.

    Raises:
        RequestError: the fit has no data module.
    """

    def __init__(self, on_one_rank: bool = True) -> None:
        self.on_one_rank = on_one_rank

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if trainer.world_size == 1 and not self.on_one_rank:
            return
        assert isinstance(pl_module, LitBatchNormMLP)
        data: NamesDataModule | None = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        if data is None:
            raise RequestError("recalibration reads the training set from a data module; fit with one")
        # A loader of its own, so that the one in use keeps its place; it yields this rank's share.
        batches = data.training_pass()
        recalibrate(
            pl_module.net.layers, batches, lambda sums: trainer.strategy.reduce(sums, reduce_op="sum")
        )
