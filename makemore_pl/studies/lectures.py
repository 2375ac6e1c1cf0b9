"""The lectures' BatchNorm-MLP from raw tensors, S2(e), beside the loop that trained it.

`BatchNormMLP` is this network from PyTorch's layers. It differs in one place: here the running *standard
deviation* is kept, and nothing is added to it, where `nn.BatchNorm1d` keeps the variance and adds eps.

Notation: B batch, T block_size, C n_embd, H n_hidden, V vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from makemore_pl.training.batches import Batch
from makemore_pl.training.initialisation import TANH_GAIN

MOMENTUM = 0.001
"""Share of a new batch in the running statistics."""


class RawBatchNormMLP(nn.Module):
    """Embedding → concatenate → matrix → BatchNorm by hand → tanh → matrix and bias.

    Args:
        generator: draws C, W1, W2, b2 in this order, as (fan_in, fan_out) matrices.
        vocab_size, block_size, n_embd, n_hidden: V, T, C, H.
    """

    running_mean: Tensor
    running_std: Tensor

    def __init__(
        self,
        generator: Generator,
        vocab_size: int = 27,
        block_size: int = 3,
        n_embd: int = 10,
        n_hidden: int = 200,
    ) -> None:
        super().__init__()

        def randn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        fan_in = block_size * n_embd
        self.C = nn.Parameter(randn(vocab_size, n_embd))
        self.W1 = nn.Parameter(randn(fan_in, n_hidden) * TANH_GAIN / math.sqrt(fan_in))
        self.W2 = nn.Parameter(randn(n_hidden, vocab_size) * 0.01)
        self.b2 = nn.Parameter(randn(vocab_size) * 0)  # drawn all the same: the batches come after it
        self.gain = nn.Parameter(torch.ones(n_hidden))
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.register_buffer("running_mean", torch.zeros(n_hidden))
        self.register_buffer("running_std", torch.ones(n_hidden))

    def forward(self, contexts: Tensor) -> Tensor:
        """contexts int64 (B, T) -> logits (B, V)."""
        embedded = self.C[contexts].view(len(contexts), -1)  # (B, T) -> (B, T, C) -> (B, T*C)
        hidden = embedded @ self.W1  # (B, T*C) -> (B, H)
        if self.training:
            mean, std = hidden.mean(0), hidden.std(0)  # (H,), (H,)
            with torch.no_grad():
                self.running_mean = (1 - MOMENTUM) * self.running_mean + MOMENTUM * mean
                self.running_std = (1 - MOMENTUM) * self.running_std + MOMENTUM * std
        else:
            mean, std = self.running_mean, self.running_std
        hidden = self.gain * (hidden - mean) / std + self.bias
        return torch.tanh(hidden) @ self.W2 + self.b2  # (B, H) -> (B, V)


def train_as_in_the_notebook(
    network: RawBatchNormMLP, examples: Batch, generator: Generator, n_steps: int
) -> None:
    """The notebook's loop with nothing around it: what `scripts/bench_training.py` measures others against."""
    contexts, targets = examples
    parameters = list(network.parameters())
    for step in range(n_steps):
        i = torch.randint(0, len(targets), (32,), generator=generator)
        loss = F.cross_entropy(network(contexts[i]), targets[i])
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        lr = 0.1 if step < 100_000 else 0.01
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.data += -lr * parameter.grad
