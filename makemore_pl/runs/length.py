"""How long a run is, and when it is evaluated, where the user leaves that open."""

from typing import Any

STEPS = 500
"""Training steps of a run whose length is not given."""
STEPS_BETWEEN_EVALUATIONS = 100
"""Of such a run, or one whose length is given in steps. A run of epochs is evaluated after each."""


def training_length(trainer: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the Trainer that the user has left open: how long to train, and when to evaluate.

    In steps, not epochs: a short list needs as many as a long one.

    Args:
        trainer: the Trainer's arguments as given.
    """
    if trainer.get("max_epochs") is not None or trainer.get("max_time") is not None:
        return {}
    max_steps = trainer["max_steps"] if trainer["max_steps"] != -1 else STEPS
    length = {"max_steps": max_steps, "max_epochs": -1}
    if trainer["val_check_interval"] is None and trainer["check_val_every_n_epoch"] == 1:
        n_evaluations = max(1, max_steps // STEPS_BETWEEN_EVALUATIONS)
        length |= {"val_check_interval": max(1, max_steps // n_evaluations), "check_val_every_n_epoch": None}
    return length
