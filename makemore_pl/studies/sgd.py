"""The notebooks' training loop: random mini-batches, plain SGD, a learning rate that steps down once.

`makemore fit` trains better and faster; this is the loop whose figures the lectures printed. Its tensors are
so small that one thread is fastest: call `torch.set_num_threads(1)` before a long run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from makemore_pl.data.batches import Windows
from makemore_pl.inspect.probe import Probe
from makemore_pl.inspect.step_table import StepRow
from makemore_pl.inspect.sweep import Sweep
from makemore_pl.model.network import BatchNormMLP

LECTURE_SEED = 2147483647
"""Seed of the one generator from which the notebooks draw first the weights, then every mini-batch."""
BATCH_SIZE = 32
"""B, examples per step, drawn with replacement."""
GradientFunction = Callable[[Tensor, Tensor], tuple[Tensor, Sequence[Tensor]]]
"""(contexts (B, T), targets (B,)) -> the loss, a scalar, and its gradient for each parameter of the model."""

Model = TypeVar("Model", bound=nn.Module, covariant=True)


@dataclass(frozen=True)
class StepDecay:
    """A learning rate for each step: `first` before step `decay_at`, `then` from it on."""

    first: float = 0.1
    decay_at: int = 100_000
    then: float = 0.01

    def __call__(self, step: int) -> float:
        return self.first if step < self.decay_at else self.then


class SGDTraining(Generic[Model]):
    """Trains any model by plain SGD, and can be saved and resumed at any step.

    Args:
        model: called on contexts (B, T), returns logits (B, V); trained in place, in its present mode.
        examples: contexts int64 (N, T) and targets int64 (N,).
        learning_rate: of each step, counted from 0.
        generator: draws the mini-batches.
        gradients: computes loss and gradients; by default cross-entropy and autograd.

    Attributes:
        losses: the loss of each step so far, nats per character.
    """

    def __init__(
        self,
        model: Model,
        examples: Windows,
        learning_rate: Callable[[int], float],
        generator: Generator,
        gradients: GradientFunction | None = None,
    ) -> None:
        self.model = model
        self.parameters = list(model.parameters())
        self.contexts, self.targets = examples
        self.learning_rate = learning_rate
        self.generator = generator
        self.gradients = gradients or self._autograd
        self.losses: list[float] = []

    @property
    def step(self) -> int:
        """Steps made."""
        return len(self.losses)

    def draw_batch(self) -> Windows:
        """Draw the next mini-batch: contexts (B, T), targets (B,)."""
        i = torch.randint(0, len(self.targets), (BATCH_SIZE,), generator=self.generator)
        return self.contexts[i], self.targets[i]

    def advance(self, n_steps: int) -> None:
        """Make `n_steps` steps."""
        for _ in range(n_steps):
            self.step_on(*self.draw_batch())

    def step_on(self, contexts: Tensor, targets: Tensor) -> None:
        """Make one step on a given batch."""
        self.update(*self.gradients(contexts, targets))

    @torch.no_grad()
    def update(self, loss: Tensor, gradients: Sequence[Tensor]) -> None:
        """Move the parameters against the gradients of a batch, and note its loss."""
        lr = self.learning_rate(self.step)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.sub_(lr * gradient)
        self.losses.append(loss.item())

    @torch.no_grad()
    def evaluate(self, examples: Windows) -> float:
        """NLL of all examples at once in eval mode, nats per character; the model's mode is restored."""
        was_training = self.model.training
        self.model.eval()
        contexts, targets = examples
        nll = F.cross_entropy(self.model(contexts), targets).item()
        self.model.train(was_training)
        return nll

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, and the losses."""
        return {
            "model": self.model.state_dict(),
            "generator": self.generator.get_state(),
            "losses": torch.tensor(self.losses),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where `state_dict` was taken, as if there had been no break."""
        self.model.load_state_dict(state["model"])
        self.generator.set_state(state["generator"])
        self.losses = state["losses"].tolist()

    def _autograd(self, contexts: Tensor, targets: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        loss = F.cross_entropy(self.model(contexts), targets)
        return loss, torch.autograd.grad(loss, self.parameters)


def sweep_learning_rate(training: SGDTraining[BatchNormMLP], n_steps: int = 1_000) -> Sweep:
    """Make the first steps of a training under rates that rise by equal factors from 10^-3 to 1."""
    rates = np.logspace(-3, 0, n_steps)
    training.learning_rate = rates.tolist().__getitem__
    training.advance(n_steps)
    return Sweep(rates, np.array(training.losses))


def advance_watched(training: SGDTraining[BatchNormMLP], n_steps: int) -> list[StepRow]:
    """Make `n_steps` steps and look at each: the figures of a run's `diagnostics.csv`."""
    probe, rows = Probe(training.model.layers), []
    for _ in range(n_steps):
        probe.attach()
        loss, gradients = training.gradients(*training.draw_batch())
        for parameter, gradient in zip(training.parameters, gradients, strict=True):
            parameter.grad = gradient
        probe.read_gradients()
        training.update(loss, gradients)
        snapshot = probe.detach(training.step - 1)
        assert snapshot is not None
        rows.append(snapshot.row)
    return rows
