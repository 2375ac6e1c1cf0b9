"""A look inside the checkpoint: one forward and backward pass on a sample of the training list."""

import torch
from torch import nn

from makemore_pl.inspect.measures import Snapshot
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.report.sources import Material

SAMPLE = 2_048
"""Examples looked at: about a default batch."""


def look_inside(material: Material) -> Snapshot | None:
    """Measure the checkpoint's layers and gradients on a sample of the training split.

    BatchNorm normalises the sample itself, as in training; Dropout is left off. The material's own network is
    not touched. None where the list is not available.
    """
    if material.training_examples is None:
        return None
    contexts, targets = material.training_examples
    chosen = torch.randperm(len(targets), generator=torch.Generator().manual_seed(42))[:SAMPLE]
    model = material.checkpoint.load_model()
    for layer in model.modules():
        layer.train(not isinstance(layer, nn.Dropout))
    return take_snapshot(model, contexts[chosen], targets[chosen], material.checkpoint.global_step)
