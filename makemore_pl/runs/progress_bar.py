"""One progress bar for a whole run, over its steps."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from makemore_pl.model.module import LitBatchNormMLP

REFRESH_EVERY = 20
"""Steps between two updates of the bar."""


class RunProgressBar(ProgressBar):
    """Steps done, the time left, and the latest figures, on stderr.

    Not Rich's, Lightning's choice where Rich is installed: it gathers all figures in every step, a fifth of
    the time that a small network takes to train.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: tqdm[Any] = tqdm(disable=True)  # before and after training, one that shows nothing
        self.enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning asks for it on all ranks but the first."""
        self.enabled = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        total = pl_module.total_steps if isinstance(pl_module, LitBatchNormMLP) else None
        self.bar = tqdm(
            total=total,
            initial=trainer.global_step,
            desc="training",
            unit=" steps",
            dynamic_ncols=True,
            disable=not self.enabled,
        )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % REFRESH_EVERY == 0:
            self._show(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(trainer, pl_module)
        self.bar.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.bar.close()

    def _show(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.bar.disable:
            return
        metrics = self.get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        self.bar.set_postfix(metrics, refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)
