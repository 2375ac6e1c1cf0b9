"""`makemore validate`, `test` and `predict`: a checkpoint's figures, and its predictions as CSV."""

import sys
from typing import Any

from makemore_pl.commands.lightning_cli import MakemoreCLI
from makemore_pl.commands.predictions import write_predictions
from makemore_pl.commands.training_errors import explained
from makemore_pl.errors import RequestError


class EvaluateCLI(MakemoreCLI):
    """The commands `validate`, `test` and `predict`, each the Trainer's method of that name."""

    def validate(self, **kwargs: Any) -> None:
        with explained(self.name, self.started, self.source):
            self.trainer.validate(**kwargs)

    def test(self, **kwargs: Any) -> None:
        with explained(self.name, self.started, self.source):
            self.trainer.test(**kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Write every example of the test split with what the network expects, as CSV on stdout."""
        if self.trainer.world_size > 1:
            raise RequestError("predict: predictions come in order from one device; set trainer.devices to 1")
        with explained(self.name, self.started, self.source):
            outputs = self.trainer.predict(**kwargs)
        write_predictions(outputs, self.datamodule, sys.stdout)  # type: ignore[arg-type]  # one loader


def run(command: str, args: list[str]) -> None:
    """Run one of the commands.

    Raises:
        MakemoreError: anything the user can fix.
    """
    EvaluateCLI(command, args)
