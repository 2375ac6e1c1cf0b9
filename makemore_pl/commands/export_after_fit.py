"""`ExportAfterFit`: the post-process step, run by the Trainer itself."""

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from makemore_pl.export.export import Export, FormChoice, expect_exportable, export_checkpoint
from makemore_pl.model.module import LitBatchNormMLP


class ExportAfterFit(Callback):
    """Folds, verifies and exports the best checkpoint when training ends, like `makemore export`.

    Args:
        form: how the network is stored in the files, see `makemore export --help`.
        enabled: false leaves the checkpoint as it is.
    """

    def __init__(self, form: FormChoice = "auto", enabled: bool = True) -> None:
        self.form = form
        self.enabled = enabled
        self.export: Export | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Raises RequestError for a network too large to be exported."""
        if self.enabled and stage == "fit" and isinstance(pl_module, LitBatchNormMLP):
            expect_exportable(pl_module.net)

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raises what `export_checkpoint` raises."""
        checkpoints = trainer.checkpoint_callback
        # A fast_dev_run, say, writes no checkpoint: there is nothing to export.
        if self.enabled and isinstance(checkpoints, ModelCheckpoint) and checkpoints.best_model_path:
            self.export = export_checkpoint(checkpoints.best_model_path, form=self.form)
