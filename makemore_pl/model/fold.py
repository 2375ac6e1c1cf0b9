"""Folding BatchNorm into the Linear before it: the same function with fewer operations.

In eval mode, BatchNorm is an affine map with constants, y = (x - mean) / √(var + eps) · gamma + beta,
so a Linear x = W h + b and the BatchNorm after it are one Linear again (Ioffe & Szegedy 2015, §3.2):

    scale = gamma / √(var + eps)        W' = scale · W        b' = (b - mean) · scale + beta
"""

import copy
from collections import OrderedDict

import torch
from torch import nn

from makemore_pl.errors import FoldError
from makemore_pl.model.members import BlockLinear, MemberMean, averaged
from makemore_pl.model.network import is_batch_norm


@torch.no_grad()
def fold(layers: nn.Sequential) -> nn.Sequential:
    """Copy `layers` in float64 with each BatchNorm folded into the Linear before it, and without Dropout.

    Cast the copy to float32 with `.float()` afterwards; the algebra is done before.

    Args:
        layers: those of a `BatchNormMLP`, in eval mode; left untouched.

    Returns:
        Layers that compute the same outputs, in eval mode.

    Raises:
        FoldError: not in eval mode, or a BatchNorm that cannot be folded; the message says which and why.
    """
    if layers.training:
        raise FoldError("folding needs the running statistics of eval mode; call .eval() first")
    folded: OrderedDict[str, nn.Module] = OrderedDict()
    previous = ""  # name of the last layer in `folded`, "" at the start
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Dropout):
            continue  # the identity in eval mode
        if is_batch_norm(layer):
            linear = _linear_before(name, layer, previous, folded.get(previous))
            folded[previous] = _folded_linear(linear, layer)
        elif isinstance(layer, MemberMean) and isinstance(output := folded[previous], BlockLinear):
            folded[previous] = averaged(output)
        else:
            folded[name] = copy.deepcopy(layer).double()
            previous = name
    return nn.Sequential(folded).eval()


def _folded_linear(linear: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    """The one Linear that computes the same as `linear` and `norm` after it, float64."""
    assert norm.running_mean is not None  # _linear_before has checked it
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()  # (fan_out,)
    shift = -norm.running_mean.double()
    if linear.bias is not None:
        shift = linear.bias.double() + shift
    if norm.affine:
        scale = scale * norm.weight.double()
    bias = shift * scale
    if norm.affine:
        bias = bias + norm.bias.double()
    folded = copy.deepcopy(linear)  # of its own kind
    folded.weight = nn.Parameter(linear.weight.double() * scale[:, None])  # (fan_out, fan_in)
    folded.bias = nn.Parameter(bias)
    return folded


def _linear_before(name: str, norm: nn.BatchNorm1d, previous: str, layer: nn.Module | None) -> nn.Linear:
    """The Linear that `norm` can be folded into.

    Raises:
        FoldError: there is none, or `norm` is not a constant affine map of its outputs.
    """
    kind = type(norm).__name__
    if not isinstance(layer, nn.Linear):
        before = f"{previous} ({type(layer).__name__})" if layer is not None else "nothing"
        raise FoldError(f"{name}: a {kind} is folded into the Linear before it; before this one is {before}")
    if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
        raise FoldError(
            f"{name}: a {kind} normalises over more than two dimensions; only (B, H) can be folded"
        )
    if norm.running_mean is None or norm.running_var is None:
        raise FoldError(
            f"{name}: a {kind} without running statistics depends on its batch and cannot be folded"
        )
    if norm.num_features != layer.out_features:
        raise FoldError(
            f"{name}: normalises {norm.num_features} features, {previous} has {layer.out_features}; "
            "a BatchNorm over more than two dimensions cannot be folded"
        )
    return layer
