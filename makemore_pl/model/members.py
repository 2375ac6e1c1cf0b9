"""Several networks side by side are one wide network, whose matrices are blocks on a diagonal.

Notation: B batch, M members, I inputs and O outputs of one member, V vocabulary size.
"""

import torch
from torch import Tensor, nn


class BlockLinear(nn.Linear):
    """M Linears side by side: (B, M*I) -> (B, M*O), where a member's outputs see its own inputs alone.

    Args:
        n_members: M.
        in_features: I.
        out_features: O.
        bias: add one to each output.

    Attributes:
        weight: (M*O, I), member after member. The matrix of the one wide Linear would be (M*O, M*I), with
            these blocks on its diagonal and zeros elsewhere.
    """

    def __init__(self, n_members: int, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, n_members * out_features, bias)
        self.n_members = n_members

    def forward(self, input: Tensor) -> Tensor:
        x = input.reshape(len(input), self.n_members, -1).transpose(0, 1)  # (B, M*I) -> (M, B, I)
        x = x @ self.blocks().transpose(1, 2)  # (M, B, I) @ (M, I, O) -> (M, B, O)
        x = x.transpose(0, 1).flatten(1)  # (B, M*O)
        return x if self.bias is None else x + self.bias

    def blocks(self) -> Tensor:
        """The members' weights, (M, O, I)."""
        return self.weight.reshape(self.n_members, -1, self.in_features)


class MemberMean(nn.Module):
    """The mean of the members' logits: (B, M*V) -> (B, V).

    Args:
        n_members: M.
    """

    def __init__(self, n_members: int) -> None:
        super().__init__()
        self.n_members = n_members

    def forward(self, logits: Tensor) -> Tensor:
        return logits.reshape(len(logits), self.n_members, -1).mean(dim=1)


def widened(layer: BlockLinear) -> nn.Linear:
    """The one wide Linear that computes the same: zeros outside the blocks."""
    blocks = torch.block_diag(*layer.blocks())  # type: ignore[no-untyped-call]  # PyTorch gives it no types
    return _linear(blocks, layer.bias)


def averaged(linear: nn.Linear, mean: MemberMean) -> nn.Linear:
    """The one Linear that computes the same as `linear` and `mean` after it."""
    weight = linear.weight.reshape(mean.n_members, -1, linear.in_features)  # (M*V, I) -> (M, V, I)
    return _linear(weight.mean(dim=0), linear.bias.reshape(mean.n_members, -1).mean(dim=0))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    n_out, n_in = weight.shape
    linear = nn.Linear(n_in, n_out, bias is not None, dtype=weight.dtype, device=weight.device)
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
    return linear
