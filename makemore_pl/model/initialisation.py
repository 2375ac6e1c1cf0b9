"""Initial weights: the ladder of the makemore lectures, drawn in the lectures' order and layout.

A generator with the lectures' seed gives the lectures' numbers: the embedding, then each layer's weight as a
(fan_in, fan_out) matrix and its bias, all from `torch.randn`.
"""

import math
from typing import Literal, get_args

import torch
from torch import Generator, nn

from makemore_pl.errors import RequestError

Scheme = Literal["normal", "scaled", "kaiming", "zero"]
TANH_GAIN = 5 / 3
"""Recommended gain before tanh (He et al. 2015; torch.nn.init.calculate_gain)."""


def initialise(
    layers: nn.Sequential,
    scheme: Scheme,
    *,
    hidden_gain: float = TANH_GAIN,
    output_gain: float | None = None,
    generator: Generator | None = None,
) -> None:
    """Draw all weights of `layers` in place.

    Args:
        layers: an Embedding and Linear layers, with or without BatchNorm, the last Linear being the output.
        scheme: standard deviation of the hidden weights and of the hidden biases:
            `normal` 1 and 1; `scaled` 0.2 and 0.01; `kaiming` hidden_gain / √fan_in and 0.01; `zero` 0 and 0.
        hidden_gain: numerator of `kaiming`.
        output_gain: standard deviation of the output weights, whose bias then starts at zero; None: as the
            hidden ones. Before an output BatchNorm it is that BatchNorm's gain instead, and the output
            weights are drawn as the hidden ones.
        generator: where the numbers come from; None: PyTorch's global generator.

    Raises:
        RequestError: an unknown scheme.
    """
    if scheme not in get_args(Scheme):
        raise RequestError(f"init must be one of {', '.join(get_args(Scheme))}, not {scheme!r}")
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    output = linears[-1]
    last = list(layers)[list(layers).index(output) + 1 :]
    output_norm = last[0] if last and isinstance(last[0], nn.BatchNorm1d) else None
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Embedding):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
            elif isinstance(layer, nn.Linear):
                weight_std, bias_std = _stds(scheme, layer.in_features, hidden_gain)
                if layer is output and output_gain is not None and output_norm is None:
                    weight_std, bias_std = output_gain, 0.0
                # (fan_in, fan_out), as the lectures draw it; Linear keeps (fan_out, fan_in).
                drawn = torch.randn((layer.in_features, layer.out_features), generator=generator)
                layer.weight.copy_((drawn * weight_std).T)
                if layer.bias is not None:
                    layer.bias.copy_(torch.randn(layer.out_features, generator=generator) * bias_std)
        if output_norm is not None and output_gain is not None:
            output_norm.weight.fill_(output_gain)


def _stds(scheme: Scheme, fan_in: int, hidden_gain: float) -> tuple[float, float]:
    """Standard deviations of a hidden layer's weights and of its biases."""
    return {
        "normal": (1.0, 1.0),
        "scaled": (0.2, 0.01),
        "kaiming": (hidden_gain / math.sqrt(fan_in), 0.01),
        "zero": (0.0, 0.0),
    }[scheme]
