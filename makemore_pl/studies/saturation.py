"""Is a network well? How far its tanh units saturate, and how large its updates are beside its weights."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from makemore_pl.inspect.measures import DEAD, SATURATED
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies.sgd import SGDTraining


@torch.no_grad()
def tanh_outputs(model: BatchNormMLP, contexts: Tensor) -> dict[str, Tensor]:
    """What each Tanh layer gives, (B, H), for contexts (B, T), in the model's present mode.

    In training mode the running statistics move, as they do in any forward pass.
    """
    outputs = {}
    x = contexts
    for name, layer in model.layers.named_children():
        x = layer(x)
        if isinstance(layer, nn.Tanh):
            outputs[name] = x
    return outputs


def saturated_share(activations: Tensor) -> float:
    """Share of all (B, H) activations that are saturated."""
    return (activations.abs() > SATURATED).double().mean().item()


def dead_units(activations: Tensor) -> int:
    """Units saturated beyond `DEAD` on every one of the B examples."""
    return int((activations.abs() > DEAD).all(dim=0).sum())


def advance_measured(training: SGDTraining[BatchNormMLP], n_steps: int) -> dict[str, list[float]]:
    """Make `n_steps` steps and measure each: log10 of the update-to-data ratio of every weight matrix.

    The ratio is std(update) / std(weights), with the weights before the update. About -3 is healthy.

    Returns:
        One value for each step, by parameter.
    """
    matrices: Mapping[str, Tensor] = {
        name: parameter for name, parameter in training.model.named_parameters() if parameter.ndim == 2
    }
    ratios: dict[str, list[float]] = {name: [] for name in matrices}
    for _ in range(n_steps):
        before = {name: matrix.detach().clone() for name, matrix in matrices.items()}
        training.advance(1)
        for name, matrix in matrices.items():
            ratio = ((matrix.detach() - before[name]).std() / before[name].std()).item()
            ratios[name].append(math.log10(ratio))
    return ratios
