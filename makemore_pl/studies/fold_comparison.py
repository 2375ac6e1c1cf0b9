"""Folding a three-layer network (S6): the same logits without BatchNorm, and what BatchNorm costs in use."""

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval
from torch.utils.benchmark import Timer

from makemore_pl.model.fold import fold
from makemore_pl.model.network import BatchNormMLP


@dataclass(frozen=True)
class FoldComparison:
    """Largest difference of a logit, over all contexts, between the trained network and others.

    Attributes:
        folded: the folded network, both in float64.
        folded_float32: the folded network in float32 against the trained one in float64.
        fused: the trained network fused by PyTorch, both in float64.
        dropped: the trained network with its BatchNorms dropped and nothing folded, which is another network.
    """

    folded: float
    folded_float32: float
    fused: float
    dropped: float


@torch.no_grad()
def compare_folded(trained: BatchNormMLP) -> FoldComparison:
    """Fold a trained network, in eval mode, and compare on every context that there is.

    Raises:
        FoldError: see `fold`.
    """
    contexts = torch.cartesian_prod(*[torch.arange(trained.vocab_size)] * trained.block_size)  # (V^T, T)
    expected = copy.deepcopy(trained).double()(contexts)

    def largest(network: Callable[[Tensor], Tensor]) -> float:
        return float((network(contexts) - expected).abs().max())

    return FoldComparison(
        folded=largest(fold(trained.layers)),
        folded_float32=largest(fold(trained.layers).float()),
        fused=largest(fuse_by_pytorch(copy.deepcopy(trained).double().layers)),
        dropped=largest(drop_batch_norm(copy.deepcopy(trained).double().layers)),
    )


def fuse_by_pytorch(layers: nn.Sequential) -> nn.Sequential:
    """PyTorch's own fusion, pair by pair; every BatchNorm must stand right after a Linear."""
    fused: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d) and isinstance(fused[-1], nn.Linear):
            fused[-1] = fuse_linear_bn_eval(fused[-1], layer)
        else:
            fused.append(layer)
    return nn.Sequential(*fused)


def drop_batch_norm(layers: nn.Sequential) -> nn.Sequential:
    """The same layers without their BatchNorms."""
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.BatchNorm1d)))


@torch.inference_mode()
def inference_seconds(trained: BatchNormMLP, batch_size: int, rounds: int = 101) -> tuple[float, float]:
    """Seconds of one forward pass with BatchNorm and of one folded, medians over short rounds taken in turns.

    Args:
        trained: in eval mode.
        batch_size: contexts in a call.
        rounds: how often each of the two is measured.
    """
    contexts = torch.randint(trained.vocab_size, (batch_size, trained.block_size))
    timers = [
        Timer("network(contexts)", globals={"network": network, "contexts": contexts})
        for network in (trained.layers, fold(trained.layers).float())
    ]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for timer, measured in zip(timers, seconds, strict=True):
            measured.append(timer.timeit(20).mean)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
