"""`LitBatchNormMLP`: loss, optimiser, schedule and metrics around the network, nothing else.

Notation: B batch size, V vocabulary size.
"""

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MeanMetric

from makemore_pl.data.batch import Batch
from makemore_pl.data.batches import mixed_seed
from makemore_pl.data.training_loader import TrainingLoader
from makemore_pl.errors import RequestError
from makemore_pl.model.compiled import match_names
from makemore_pl.model.label_nll import LabelNLL
from makemore_pl.model.network import BatchNormMLP, is_batch_norm
from makemore_pl.model.schedule import default_weight_decay, one_cycle

DIVERGED = "training has diverged; try a lower model.lr"
AnyBatch = Batch | tuple[Tensor, Tensor] | list[Tensor]
"""A batch of `NamesDataModule`; or contexts int64 (B, T) and targets int64 (B,), as of any DataLoader."""


class LitBatchNormMLP(L.LightningModule):
    """Trains a `BatchNormMLP` by next-character cross-entropy with AdamW and a one-cycle learning rate.

    Args:
        vocab_size: V; on the command line it comes from the data.
        block_size: T; on the command line it comes from the data.
        n_examples: training examples, which set the weight decay; on the command line it comes from the data.
        lr: highest learning rate of the cycle.
        warmup: share of the steps on which the rate rises to its highest; it falls on the others.
        weight_decay: AdamW's, on weight matrices; biases and BatchNorm are left alone. By default 50,000
            divided by the number of training examples, at most 0.8 / lr.
        beta2: share that AdamW keeps, in each step, of its mean of squared gradients. PyTorch's 0.999 would
            average over a whole run of some hundred steps; in one of thousands it is right.
        label_smoothing: share of the target spread evenly over all characters, in training only.
        network: the other arguments of `BatchNormMLP`.

    Attributes:
        total_steps: length of the cycle, in optimiser steps; None: what the Trainer estimates.

    Raises:
        RequestError: a value out of its range.
    """

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_examples: int = 200_000,
        lr: float = 0.04,
        warmup: float = 0.4,
        weight_decay: float | None = None,
        beta2: float = 0.95,
        label_smoothing: float = 0.0,
        **network: Any,
    ) -> None:
        super().__init__()
        if not lr > 0:
            raise RequestError(f"model.lr must be above 0, not {lr}")
        if not 0 < warmup < 1:
            raise RequestError(f"model.warmup must be above 0 and below 1, not {warmup}")
        if n_examples < 1:
            raise RequestError(f"model.n_examples must be at least 1, not {n_examples}")
        if weight_decay is not None and not weight_decay >= 0:
            raise RequestError(f"model.weight_decay must be at least 0, not {weight_decay}")
        if not 0 <= beta2 < 1:
            raise RequestError(f"model.beta2 must be at least 0 and below 1, not {beta2}")
        if not 0 <= label_smoothing < 1:
            raise RequestError(f"model.label_smoothing must be at least 0 and below 1, not {label_smoothing}")
        self.save_hyperparameters()
        self.lr = lr
        self.warmup = warmup
        self.weight_decay = default_weight_decay(n_examples, lr) if weight_decay is None else weight_decay
        self.betas = (0.9, beta2)
        self.label_smoothing = label_smoothing
        self.total_steps: int | None = None
        self.noise_seed = torch.initial_seed()
        self.net = BatchNormMLP(vocab_size, block_size, **network)
        sizes = ("n_embd", "n_hidden", "n_layers")  # defaults, too: those of another version may be others
        self.save_hyperparameters({size: getattr(self.net, size) for size in sizes})
        self.register_load_state_dict_pre_hook(match_names)  # type: ignore[no-untyped-call]
        # Exact: a sum over all batches and ranks, divided once. NaN would be left out by default.
        self.val_nll = MeanMetric(nan_strategy="error")
        self.test_nll = MeanMetric(nan_strategy="error")
        self.val_label_nll, self.test_label_nll = (LabelNLL(self.net.n_labels, vocab_size) for _ in range(2))

    def forward(self, context: Tensor) -> Tensor:
        """context int64 (B, P) -> logits (B, V), see `BatchNormMLP`."""
        logits: Tensor = self.net(context)
        return logits

    def setup(self, stage: str) -> None:
        """Take the seed of Dropout's noise. Lightning calls it before a checkpoint is loaded."""
        self.noise_seed = torch.initial_seed()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["noise_seed"] = self.noise_seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.noise_seed = checkpoint.get("noise_seed", self.noise_seed)

    def on_train_start(self) -> None:
        """Refuse, on all ranks alike, batches of one context: BatchNorm cannot train on them.

        Raises:
            RequestError: with what to change.
        """
        loader = self.trainer.train_dataloader
        has_norm = any(map(is_batch_norm, self.net.modules()))
        if has_norm and isinstance(loader, TrainingLoader) and loader.loader.smallest < 2:
            share = " for each rank" if self.trainer.world_size > 1 else ""
            raise RequestError(
                f"BatchNorm cannot train on a batch of {loader.loader.smallest} contexts{share}; "
                "choose a larger data.batch_size, or model.batch_norm false"
            )

    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        # Dropout's noise depends on seed, step and rank alone: ranks draw their own, and a run that is
        # resumed repeats it, whatever else has drawn random numbers in between.
        if self.hparams.get("dropout"):
            step = self.trainer.fit_loop.total_batch_idx
            torch.manual_seed(mixed_seed(self.noise_seed, step, self.global_rank))

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        batch = as_batch(batch)
        logits = self.net(batch.contexts, by_member=True)  # (B, P) -> (B, M, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # where it computes in 16 bits
        log_probs = logits.log_softmax(dim=2).mean(dim=1)  # (B, V): its NLL is the mean of the members'
        loss = batch.nll(log_probs) / batch.mean_weight
        if self.label_smoothing:
            uniform = -(log_probs.mean(dim=1)[batch.rows] * batch.weights).sum() / batch.mean_weight
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * uniform
        if self._is_logged_step():
            self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        self._evaluate(as_batch(batch), self.val_nll, self.val_label_nll)

    def on_validation_epoch_end(self) -> None:
        self._log_figures("val", self.val_nll, self.val_label_nll)

    def test_step(self, batch: AnyBatch, batch_idx: int) -> None:
        self._evaluate(as_batch(batch), self.test_nll, self.test_label_nll)

    def on_test_epoch_end(self) -> None:
        self._log_figures("test", self.test_nll, self.test_label_nll)

    def predict_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """Log-probabilities of the next character in nats, (B, V)."""
        log_probs: Tensor = self.net(as_batch(batch).contexts).log_softmax(dim=1)
        return log_probs

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW and the cycle.

        Raises:
            RequestError: the run has no end, so that the cycle has no length.
        """
        total_steps = self.total_steps or self.trainer.estimated_stepping_batches
        if not 0 < total_steps < math.inf:
            raise RequestError(
                "the cycle of learning rates needs an end: give trainer.max_steps or max_epochs"
            )
        matrices = [p for p in self.parameters() if p.ndim > 1]
        vectors = [p for p in self.parameters() if p.ndim == 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        # Fused: one kernel for all parameters, on the CPU as on the GPU. In mixed precision it would scale
        # gradients itself, after they have been clipped.
        clipped = bool(self.trainer.gradient_clip_val) and "mixed" in self.trainer.precision
        eps = max(1e-8, torch.finfo(matrices[0].dtype).smallest_normal)  # not 0 in float16, either
        optimizer = torch.optim.AdamW(groups, self.lr, self.betas, eps, self.weight_decay, fused=not clipped)
        # Not OneCycleLR: its length is part of its state, so that a run could not be resumed for longer.
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step / total_steps, self.warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _is_logged_step(self) -> bool:
        """Whether Lightning will write this step. On all others `self.log` would be paid for nothing."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
        return every > 0 and (self.global_step + 1) % every == 0

    def _evaluate(self, batch: Batch, nll: MeanMetric, label_nll: LabelNLL) -> None:
        for metric in (nll, label_nll):  # Lightning may have turned them to 16 bits with the whole module
            metric.set_dtype(torch.float64)
        if not len(batch):  # this rank's share of less than one context for each
            return
        n_examples = batch.weights.double().sum()
        log_probs = self.net(batch.contexts).double().log_softmax(dim=1)  # (B, V)
        mean = batch.nll(log_probs) / n_examples
        if self.net.n_labels:
            label_nll.update(batch, log_probs)
        try:
            nll.update(mean, n_examples)
        except RuntimeError as error:  # it is NaN
            raise RequestError(f"the NLL is {mean:g}: {DIVERGED}") from error

    def _log_figures(self, stage: str, metric: MeanMetric, label_nll: LabelNLL) -> None:
        nll = metric.compute()
        metric.reset()
        if not nll.isfinite():
            raise RequestError(f"the NLL is {nll:g}: {DIVERGED}")
        # compute() has summed over the ranks: all have the same figures, so that syncing changes nothing.
        self.log(f"{stage}/nll", nll, prog_bar=True, sync_dist=True)  # nats per character
        self.log(f"{stage}/perplexity", nll.exp(), sync_dist=True)
        self.log(f"{stage}/bits_per_char", nll / math.log(2), sync_dist=True)
        if self.net.n_labels:
            texts = getattr(getattr(self.trainer, "datamodule", None), "labels", range(self.net.n_labels))
            nlls = label_nll.compute().reshape(-1)  # torchmetrics makes a scalar of a single one
            for label, nll in zip(texts, nlls, strict=True):
                if not nll.isnan():  # else the split has no name of that label
                    self.log(f"{stage}/nll/{label}", nll, sync_dist=True)
            label_nll.reset()


def as_batch(batch: AnyBatch) -> Batch:
    """A batch as `NamesDataModule` gives it, from that or from a pair of contexts and targets."""
    return batch if isinstance(batch, Batch) else Batch.of_examples(*batch)
