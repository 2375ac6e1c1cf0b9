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

    def __init__(self, n_members: int, in_features: int, out_features: int, bias: bool) -> None:
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


def member_linear(n_members: int, in_features: int, out_features: int, bias: bool) -> nn.Linear:
    """A Linear (B, in_features) -> (B, out_features), in blocks if there are several members."""
    if n_members == 1:
        return nn.Linear(in_features, out_features, bias)
    return BlockLinear(n_members, in_features // n_members, out_features // n_members, bias)


def averaged(output: BlockLinear) -> nn.Linear:
    """The one Linear, (B, M*I) -> (B, O), that computes the mean of the members' outputs."""
    n_members, n_out, n_in = output.blocks().shape
    mean = nn.Linear(n_members * n_in, n_out, dtype=output.weight.dtype, device=output.weight.device)
    with torch.no_grad():
        mean.weight.copy_(output.blocks().transpose(0, 1).flatten(1) / n_members)  # (O, M*I)
        mean.bias.copy_(output.bias.reshape(n_members, n_out).mean(dim=0))
    return mean
