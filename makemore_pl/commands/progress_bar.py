"""Which progress bar a Trainer shows."""

import sys
from typing import Any

from lightning.pytorch.callbacks import Callback, ProgressBar, TQDMProgressBar

REFRESH_RATE = 20
"""Steps between two updates of the bar."""


def progress_bar(wanted: bool | None, callbacks: list[Callback]) -> dict[str, Any]:
    """Arguments of the Trainer for its progress bar.

    Not Rich's, Lightning's choice where Rich is installed: it gathers all figures in every step, a fifth of
    the time that a small network takes to train.

    Args:
        wanted: `trainer.enable_progress_bar`; None: where there is a terminal.
        callbacks: those that the user has asked for; a bar among them stays.
    """
    if any(isinstance(callback, ProgressBar) for callback in callbacks):
        return {}
    if wanted is None:
        wanted = sys.stdout.isatty()
    bars = [TQDMProgressBar(refresh_rate=REFRESH_RATE)] if wanted else []
    return {"enable_progress_bar": wanted, "callbacks": [*callbacks, *bars]}
