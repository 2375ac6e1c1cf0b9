"""Folding a three-layer network (S6): the same logits without BatchNorm, and what BatchNorm costs in use."""

import copy
import statistics

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval
from torch.utils.benchmark import Timer

from makemore_pl.model.fold import fold
from makemore_pl.model.network import BatchNormMLP


@torch.no_grad()
def compare_folded(trained: BatchNormMLP) -> dict[str, float]:
    """Fold a trained network, in eval mode, and compare it with others on every context that there is.

    Returns:
        The largest difference of a logit from the trained network in float64: of the network `folded`, of
        that in `float32`, of the network `fused` by PyTorch, and of the one with its BatchNorms `dropped`
        and nothing folded, which is another network.

    Raises:
        FoldError: see `fold`.
    """
    exact = copy.deepcopy(trained).double()
    contexts = torch.cartesian_prod(*[torch.arange(trained.vocab_size)] * trained.block_size)  # (V^T, T)
    others: dict[str, nn.Module] = {
        "folded": fold(trained.layers),
        "float32": fold(trained.layers).float(),
        "fused": fuse_by_pytorch(exact.layers),
        "dropped": nn.Sequential(*(x for x in exact.layers if not isinstance(x, nn.BatchNorm1d))),
    }
    expected = exact(contexts)
    return {name: float((other(contexts) - expected).abs().max()) for name, other in others.items()}


def fuse_by_pytorch(layers: nn.Sequential) -> nn.Sequential:
    """PyTorch's own fusion, pair by pair; every BatchNorm must stand right after a Linear."""
    fused: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d) and isinstance(fused[-1], nn.Linear):
            fused[-1] = fuse_linear_bn_eval(fused[-1], layer)
        else:
            fused.append(layer)
    return nn.Sequential(*fused)


@torch.inference_mode()
def inference_seconds(trained: BatchNormMLP, batch_size: int, rounds: int = 101) -> tuple[float, float]:
    """Seconds of a forward pass with BatchNorm and of one folded, in eval mode: medians of many rounds."""
    contexts = torch.randint(trained.vocab_size, (batch_size, trained.block_size))
    timers = [
        Timer("network(contexts)", globals={"network": network, "contexts": contexts})
        for network in (trained.layers, fold(trained.layers).float())
    ]
    seconds = [[timer.timeit(20).mean for timer in timers] for _ in range(rounds)]
    before, folded = map(statistics.median, zip(*seconds, strict=True))
    return before, folded
