"""The lectures' BatchNorm-MLP and its training from raw tensors alone, S2(e).

`BatchNormMLP` is this network from PyTorch's layers. They differ in one place: here the running *standard
deviation* is kept and nothing is added to it, where `nn.BatchNorm1d` keeps the variance and adds eps.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from makemore_pl.data.batches import Windows
from makemore_pl.model.initialisation import TANH_GAIN


class NotebookTraining:
    """Network, loop and nothing around them: also what `scripts/bench_training.py` measures others against.

    Notation: B batch, T block_size, C n_embd, H n_hidden, V vocab_size.

    Args:
        examples: contexts int64 (N, T) and targets int64 (N,).
        generator: draws C, W1, W2 and b2 in this order, as (fan_in, fan_out) matrices, then the mini-batches.
        vocab_size, n_embd, n_hidden: V, C, H.

    Attributes:
        losses: the loss of each step so far, nats per character.
    """

    def __init__(
        self,
        examples: Windows,
        generator: Generator,
        vocab_size: int = 27,
        n_embd: int = 10,
        n_hidden: int = 200,
    ) -> None:
        self.contexts, self.targets = examples
        self.generator = generator
        fan_in = self.contexts.shape[1] * n_embd
        self.parameters = {
            "C": torch.randn((vocab_size, n_embd), generator=generator),
            "W1": torch.randn((fan_in, n_hidden), generator=generator) * TANH_GAIN / math.sqrt(fan_in),
            "W2": torch.randn((n_hidden, vocab_size), generator=generator) * 0.01,
            # Zero, and drawn all the same: what is drawn after it depends on it.
            "b2": torch.randn(vocab_size, generator=generator) * 0,
            "gain": torch.ones(n_hidden),
            "bias": torch.zeros(n_hidden),
        }
        for parameter in self.parameters.values():
            parameter.requires_grad = True
        self.running_mean = torch.zeros(n_hidden)
        self.running_std = torch.ones(n_hidden)
        self.losses: list[float] = []

    @property
    def step(self) -> int:
        """Steps made."""
        return len(self.losses)

    def advance(self, n_steps: int) -> None:
        """Make `n_steps` steps."""
        parameters = list(self.parameters.values())
        C, W1, W2, b2, gain, bias = parameters
        running_mean, running_std = self.running_mean, self.running_std
        for step in range(self.step, self.step + n_steps):
            i = torch.randint(0, len(self.targets), (32,), generator=self.generator)
            contexts, targets = self.contexts[i], self.targets[i]  # (B, T), (B,)

            embedded = C[contexts].view(len(i), -1)  # (B, T) -> (B, T, C) -> (B, T*C)
            hidden = embedded @ W1  # (B, T*C) -> (B, H)
            mean, std = hidden.mean(0), hidden.std(0)  # (H,), (H,)
            with torch.no_grad():
                running_mean = 0.999 * running_mean + 0.001 * mean
                running_std = 0.999 * running_std + 0.001 * std
            hidden = torch.tanh(gain * (hidden - mean) / std + bias)
            logits = hidden @ W2 + b2  # (B, H) -> (B, V)
            loss = F.cross_entropy(logits, targets)

            for parameter in parameters:
                parameter.grad = None
            loss.backward()  # type: ignore[no-untyped-call]  # PyTorch gives it no types
            lr = 0.1 if step < 100_000 else 0.01
            for parameter in parameters:
                parameter.data += -lr * parameter.grad  # type: ignore[operator]  # backward has set it
            self.losses.append(loss.item())
        self.running_mean, self.running_std = running_mean, running_std

    @torch.no_grad()
    def evaluate(self, examples: Windows) -> float:
        """NLL of all examples at once with the running statistics, nats per character."""
        contexts, targets = examples
        C, W1, W2, b2, gain, bias = self.parameters.values()
        hidden = C[contexts].view(len(targets), -1) @ W1  # (N, T) -> (N, H)
        hidden = torch.tanh(gain * (hidden - self.running_mean) / self.running_std + bias)
        return F.cross_entropy(hidden @ W2 + b2, targets).item()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, and the losses."""
        return {
            "model": {
                **{name: parameter.detach() for name, parameter in self.parameters.items()},
                "running_mean": self.running_mean,
                "running_std": self.running_std,
            },
            "generator": self.generator.get_state(),
            "losses": torch.tensor(self.losses),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, as if there had been no break."""
        tensors: dict[str, Tensor] = dict(state["model"])
        self.running_mean, self.running_std = tensors.pop("running_mean"), tensors.pop("running_std")
        for name, value in tensors.items():
            self.parameters[name].data.copy_(value)
        self.generator.set_state(state["generator"])
        self.losses = state["losses"].tolist()
