"""`makemore lr-find`: sweep learning rates in one short training, and suggest one."""

from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import Trainer

from makemore_pl.parsing.lightning_cli import MakemoreCLI
from makemore_pl.parsing.training_errors import explained
from makemore_pl.runs.lr_find import PEAK, SweepTrainer


class LearningRateCLI(MakemoreCLI):
    """The command `lr-find`."""

    trainer_type = SweepTrainer
    needs_checkpoint = False

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # there a staticmethod
        return {self.command: {"model", "datamodule"}}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        # As long as the sweep takes; the weights are kept meanwhile in a folder that goes with it.
        work_folder = self.held.enter_context(TemporaryDirectory(prefix="makemore-"))
        return super().instantiate_trainer(
            default_root_dir=work_folder, max_epochs=-1, max_steps=self.options.steps, **kwargs
        )

    def lr_find(self, steps: int, plot: str | None, **kwargs: Any) -> None:
        """Sweep, and print the suggestion."""
        assert isinstance(self.trainer, SweepTrainer)
        plot = plot or unused_name("lr-find.png")
        with explained(self.name, self.started, self.source):
            sweep = self.trainer.lr_find(steps=steps, plot=plot, **kwargs)
        if not self.trainer.is_global_zero:
            return
        low, high = (f"{sweep.rates[step]:.2g}" for step in sweep.valley)
        valley = f"the middle of where the loss was lowest, {low} to {high}"
        if self.options.get("optimizer"):
            option, rate, why = "optimizer.lr", sweep.middle, f"{valley}: a constant rate"
        else:
            option, rate = "model.lr", PEAK * sweep.middle
            why = f"the highest of one cycle: {PEAK:g} times {valley}"
        print(f"lr:     {rate:.2g}, {why}")
        print(
            f"sweep:  {len(sweep.losses):,} of {steps:,} steps, {sweep.rates[0]:.2g} to {sweep.rates[-1]:.2g}"
        )
        print(f"plot:   {plot}")
        if not sweep.is_bracketed:
            print("note:   the loss is lowest at an end of the sweep; widen it by --min_lr or --max_lr")
        print(f"use:    makemore fit ... --{option} {rate:.2g}")


def unused_name(name: str) -> str:
    """The name itself; or, where there is such a file, with a number: `lr-find-2.png`."""
    path = Path(name)
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return str(next(file for file in chain([path], numbered) if not file.exists()))
