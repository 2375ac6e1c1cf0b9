"""The notebooks' training loop: random mini-batches, plain SGD, a learning rate that steps down once.

`makemore fit` trains better and faster; this is the loop whose figures the lectures printed. Its tensors are
so small that one thread is fastest: call `torch.set_num_threads(1)` before a long run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from makemore_pl.data.batches import Windows

LECTURE_SEED = 2147483647
"""Seed of the one generator from which the notebooks draw first the weights, then every mini-batch."""

GradientFunction = Callable[[Tensor, Tensor], tuple[Tensor, Sequence[Tensor]]]
"""(contexts (B, T), targets (B,)) -> the loss, a scalar, and its gradient for each parameter of the model."""


Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class StepDecay:
    """A learning rate for each step: `first` before step `decay_at`, `then` from it on."""

    first: float = 0.1
    decay_at: int = 100_000
    then: float = 0.01

    def __call__(self, step: int) -> float:
        return self.first if step < self.decay_at else self.then


class Training(Protocol):
    """A run that can be advanced, evaluated, saved and gone on with at any step."""

    losses: list[float]

    @property
    def step(self) -> int: ...
    def advance(self, n_steps: int) -> None: ...
    def evaluate(self, examples: Windows) -> float: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class SGDTraining(Generic[Model]):
    """Trains any model by plain SGD; a `Training`.

    Args:
        model: called on contexts (B, T), returns logits (B, V); trained in place, in its present mode.
        examples: contexts int64 (N, T) and targets int64 (N,).
        learning_rate: of each step, counted from 0.
        generator: draws the mini-batches.
        gradients: how loss and gradients come about; by default cross-entropy and autograd.
        batch_size: B, examples per step, drawn with replacement.

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
        batch_size: int = 32,
    ) -> None:
        self.model = model
        self.parameters = list(model.parameters())
        self.contexts, self.targets = examples
        self.learning_rate = learning_rate
        self.generator = generator
        self.gradients = gradients or self._autograd
        self.batch_size = batch_size
        self.losses: list[float] = []

    @property
    def step(self) -> int:
        """Steps made."""
        return len(self.losses)

    def draw_batch(self) -> Windows:
        """The next mini-batch: contexts (B, T), targets (B,)."""
        i = torch.randint(0, len(self.targets), (self.batch_size,), generator=self.generator)
        return self.contexts[i], self.targets[i]

    def advance(self, n_steps: int) -> None:
        """Make `n_steps` steps."""
        for _ in range(n_steps):
            self.step_on(*self.draw_batch())

    def step_on(self, contexts: Tensor, targets: Tensor) -> None:
        """Make one step on a given batch."""
        loss, gradients = self.gradients(contexts, targets)
        lr = self.learning_rate(self.step)
        with torch.no_grad():
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.sub_(lr * gradient)
        self.losses.append(loss.item())

    @torch.no_grad()
    def evaluate(self, examples: Windows) -> float:
        """NLL of all examples at once in eval mode, nats per character; the model's mode is put back."""
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
        """Go on where `state_dict` was taken, as if there had been no break."""
        self.model.load_state_dict(state["model"])
        self.generator.set_state(state["generator"])
        self.losses = state["losses"].tolist()

    def _autograd(self, contexts: Tensor, targets: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        loss = F.cross_entropy(self.model(contexts), targets)
        return loss, torch.autograd.grad(loss, self.parameters)
