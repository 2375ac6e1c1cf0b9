"""A look inside the checkpoint: one forward and backward pass on a sample of the training list."""

import torch
import torch.nn.functional as F

from makemore_pl.inspect.findings import (
    dead_units,
    findings_at_start,
    findings_over_run,
    saturated_in_training,
)
from makemore_pl.inspect.measures import Snapshot
from makemore_pl.inspect.probe import Probe
from makemore_pl.report.sources import Material

SAMPLE = 2_048
"""Examples looked at: about a default batch."""


def look_inside(material: Material) -> Snapshot | None:
    """Figures of the checkpoint's layers and gradients on a sample of the training split.

    BatchNorm normalises the sample itself, as in training; Dropout is left off. The material's own network is
    not touched. None where the list is not at hand.
    """
    if material.training_examples is None:
        return None
    contexts, targets = material.training_examples
    chosen = torch.randperm(len(targets), generator=torch.Generator().manual_seed(42))[:SAMPLE]
    model = material.checkpoint.load_model()
    for layer in model.modules():
        layer.train(not isinstance(layer, torch.nn.Dropout))
    probe = Probe(model.layers)
    probe.attach()
    F.cross_entropy(model(contexts[chosen]), targets[chosen]).backward()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
    probe.read_gradients()
    return probe.detach(material.checkpoint.global_step)


def describe_health(material: Material, snapshot: Snapshot | None) -> list[str]:
    """What is unhealthy, a sentence each: over the run where it was recorded, else at this checkpoint."""
    records = material.records
    if records:
        found = findings_at_start(records[0]) if records[0].step == 0 else []
        found += findings_over_run(records)
    else:
        found = []
        for tanh in snapshot.tanhs if snapshot is not None else []:
            found += saturated_in_training(tanh.name, tanh.saturated) + dead_units(tanh.name, tanh.dead)
    return [str(finding) for finding in found]
