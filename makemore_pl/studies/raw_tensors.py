"""The lectures' BatchNorm-MLP and its training from raw tensors alone, S2(e).

`BatchNormMLP` is this network from PyTorch's layers. They differ in one place: here the running *standard
deviation* is kept and nothing is added to it, where `nn.BatchNorm1d` keeps the variance and adds eps.

Notation: B batch, T block_size, C n_embd, H n_hidden, V vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from makemore_pl.data.batches import Windows
from makemore_pl.model.initialisation import TANH_GAIN
from makemore_pl.studies.sgd import SGDTraining, StepDecay


class NotebookMLP(nn.Module):
    """The tensors, and what they compute after training.

    Args:
        generator: draws C, W1, W2 and b2 in this order, as (fan_in, fan_out) matrices.
        vocab_size, block_size, n_hidden: V, T, H.
    """

    running_mean: Tensor
    running_std: Tensor

    def __init__(self, generator: Generator, vocab_size: int, block_size: int, n_hidden: int) -> None:
        super().__init__()

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        n_embd = 10
        fan_in = block_size * n_embd
        self.C = nn.Parameter(normal(vocab_size, n_embd))
        self.W1 = nn.Parameter(normal(fan_in, n_hidden) * TANH_GAIN / math.sqrt(fan_in))
        self.W2 = nn.Parameter(normal(n_hidden, vocab_size) * 0.01)
        # Zero, and drawn all the same: what is drawn after it depends on it.
        self.b2 = nn.Parameter(normal(vocab_size) * 0)
        self.gain = nn.Parameter(torch.ones(n_hidden))
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.register_buffer("running_mean", torch.zeros(n_hidden))
        self.register_buffer("running_std", torch.ones(n_hidden))

    def forward(self, contexts: Tensor) -> Tensor:
        """Logits (N, V) of contexts int64 (N, T), with the running statistics."""
        hidden = self.C[contexts].view(len(contexts), -1) @ self.W1  # (N, T) -> (N, H)
        hidden = torch.tanh(self.gain * (hidden - self.running_mean) / self.running_std + self.bias)
        return hidden @ self.W2 + self.b2


class NotebookTraining(SGDTraining[NotebookMLP]):
    """Network, loop and nothing around them: also what `scripts/bench_training.py` measures others against.

    Args:
        examples: contexts int64 (N, T) and targets int64 (N,).
        generator: draws the weights, then the mini-batches.
        vocab_size, n_hidden: V, H.
    """

    def __init__(
        self, examples: Windows, generator: Generator, vocab_size: int = 27, n_hidden: int = 200
    ) -> None:
        network = NotebookMLP(generator, vocab_size, examples[0].shape[1], n_hidden)
        super().__init__(network, examples, StepDecay(), generator)

    def advance(self, n_steps: int) -> None:
        """Make `n_steps` steps: the notebook's own lines, with BatchNorm's statistics from the batch."""
        C, W1, W2, b2, gain, bias = self.parameters
        running_mean, running_std = self.model.running_mean, self.model.running_std
        for step in range(self.step, self.step + n_steps):
            contexts, targets = self.draw_batch()  # (B, T), (B,)

            embedded = C[contexts].view(len(targets), -1)  # (B, T) -> (B, T, C) -> (B, T*C)
            hidden = embedded @ W1  # (B, T*C) -> (B, H)
            mean, std = hidden.mean(0), hidden.std(0)  # (H,), (H,)
            with torch.no_grad():
                running_mean = 0.999 * running_mean + 0.001 * mean
                running_std = 0.999 * running_std + 0.001 * std
            hidden = torch.tanh(gain * (hidden - mean) / std + bias)
            logits = hidden @ W2 + b2  # (B, H) -> (B, V)
            loss = F.cross_entropy(logits, targets)

            for parameter in self.parameters:
                parameter.grad = None
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
            lr = 0.1 if step < 100_000 else 0.01
            for parameter in self.parameters:
                parameter.data += -lr * parameter.grad  # type: ignore[operator]  # backward has set it
            self.losses.append(loss.item())
        self.model.running_mean, self.model.running_std = running_mean, running_std
