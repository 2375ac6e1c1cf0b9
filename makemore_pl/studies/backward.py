"""The backward pass by hand: every gradient of a BatchNorm-MLP, from the loss down to the embedding (S8).

Read it from top to bottom. `forward_steps` computes the loss in twenty elementary steps. `backward_steps`
goes back over them from the last to the first and applies the chain rule to each. `compare` sets the outcome
beside autograd's. Two short forms then replace the longest stretches; `loss_and_gradients` trains on them.

`d.x` is the gradient of the loss for `s.x` and has its shape. Four rules are enough:

    y = f(x), elementwise       dx = dy * f'(x)
    Y = A @ B                   dA = dY @ B.T,  dB = A.T @ dY       (the only products whose shapes fit)
    y = x.sum(axis)             dx = dy, repeated along the axis; and where x was itself repeated along an
                                axis on the way forward (broadcast), its gradient is summed along that axis
    x used in several places    dx is the sum of what comes back from each

Notation: B batch, T block_size, C n_embd, H n_hidden, V vocab_size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from makemore_pl.model.initialisation import TANH_GAIN

EPS = 1e-5
"""Added to the variance, so that a unit that does not vary is not divided by zero."""


class HandMadeMLP(nn.Module):
    """Embedding → matrix and bias → BatchNorm → tanh → matrix and bias; 12,297 parameters.

    A bias right before a BatchNorm does nothing: the batch mean takes it away again. It is kept for the sake
    of its gradient, which is zero up to rounding.

    Args:
        generator: draws the weights, as (fan_in, fan_out) matrices. None of them starts at zero or one, where
            a wrong gradient could pass for a right one.
        vocab_size, block_size, n_embd, n_hidden: V, T, C, H.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(
        self,
        generator: Generator,
        vocab_size: int = 27,
        block_size: int = 3,
        n_embd: int = 10,
        n_hidden: int = 200,
    ) -> None:
        super().__init__()

        def normal(*shape: int, std: float, mean: float = 0.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator) * std + mean)

        fan_in = block_size * n_embd
        self.C = normal(vocab_size, n_embd, std=1)
        self.W1 = normal(fan_in, n_hidden, std=TANH_GAIN / math.sqrt(fan_in))
        self.b1 = normal(n_hidden, std=0.1)
        self.W2 = normal(n_hidden, vocab_size, std=0.1)
        self.b2 = normal(vocab_size, std=0.1)
        self.gain = normal(n_hidden, std=0.1, mean=1)
        self.bias = normal(n_hidden, std=0.1)
        # What BatchNorm uses after training, see `calibrate`.
        self.register_buffer("mean", torch.zeros(n_hidden))
        self.register_buffer("inverse_std", torch.ones(n_hidden))

    def preactivation(self, contexts: Tensor) -> Tensor:
        """The input of BatchNorm, (B, H), for contexts int64 (B, T)."""
        return self.C[contexts].view(len(contexts), -1) @ self.W1 + self.b1

    @torch.no_grad()
    def calibrate(self, contexts: Tensor) -> None:
        """Take BatchNorm's statistics from all of `contexts` at once, after training."""
        variance, self.mean = torch.var_mean(self.preactivation(contexts), dim=0)
        self.inverse_std = (variance + EPS).rsqrt()

    def forward(self, contexts: Tensor) -> Tensor:
        """Logits (B, V) of contexts int64 (B, T), with the calibrated statistics."""
        normalised = (self.preactivation(contexts) - self.mean) * self.inverse_std
        return torch.tanh(self.gain * normalised + self.bias) @ self.W2 + self.b2


def forward_steps(net: HandMadeMLP, contexts: Tensor, targets: Tensor) -> SimpleNamespace:
    """The loss of a batch, contexts (B, T) and targets (B,), one operation at a time, each under its name."""
    n = len(targets)
    s = SimpleNamespace()
    s.embedded = net.C[contexts]  # (B, T) -> (B, T, C)
    s.concatenated = s.embedded.view(n, -1)  # (B, T, C) -> (B, T*C)
    s.preactivation = s.concatenated @ net.W1 + net.b1  # (B, T*C) -> (B, H)

    # BatchNorm. The variance of a sample divides by n - 1 (Bessel's correction).
    s.mean = s.preactivation.sum(0) / n  # (B, H) -> (H,)
    s.difference = s.preactivation - s.mean  # (B, H)
    s.squared_difference = s.difference**2  # (B, H)
    s.variance = s.squared_difference.sum(0) / (n - 1)  # (B, H) -> (H,)
    s.inverse_std = (s.variance + EPS) ** -0.5  # (H,)
    s.normalised = s.difference * s.inverse_std  # (B, H)
    s.scaled = net.gain * s.normalised + net.bias  # (B, H)

    s.activation = torch.tanh(s.scaled)  # (B, H)
    s.logits = s.activation @ net.W2 + net.b2  # (B, H) -> (B, V)

    # Cross-entropy. Taking the largest logit away changes no probability, and exp cannot overflow.
    s.maxima = s.logits.max(1, keepdim=True).values  # (B, V) -> (B, 1)
    s.shifted = s.logits - s.maxima  # (B, V)
    s.exponentials = s.shifted.exp()  # (B, V)
    s.sums = s.exponentials.sum(1, keepdim=True)  # (B, V) -> (B, 1)
    s.inverse_sums = s.sums**-1  # (B, 1)
    s.probabilities = s.exponentials * s.inverse_sums  # (B, V)
    s.log_probabilities = s.probabilities.log()  # (B, V)
    s.loss = -s.log_probabilities[torch.arange(n), targets].mean()  # (B, V) -> ()
    return s


@torch.no_grad()
def backward_steps(
    net: HandMadeMLP, s: SimpleNamespace, contexts: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """The gradient of the loss for each step's result and each parameter, under its name, last step first.

    Args:
        net: the network.
        s: what `forward_steps` gave for it and this batch.
        contexts, targets: the batch, (B, T) and (B,).
    """
    n = len(targets)
    d = SimpleNamespace()

    # loss: minus the mean of the n targets' log-probabilities. The others do not enter.
    d.log_probabilities = torch.zeros_like(s.log_probabilities)
    d.log_probabilities[torch.arange(n), targets] = -1 / n
    # log' = 1 / x: an improbable target gets a large gradient.
    d.probabilities = d.log_probabilities / s.probabilities
    # A product: each factor gets the other one. inverse_sums was repeated over V, so it is summed over V.
    d.inverse_sums = (d.probabilities * s.exponentials).sum(1, keepdim=True)
    # (1/x)' = -1/x²
    d.sums = -d.inverse_sums * s.sums**-2
    # Used twice: in the product, and in the sum, which hands its gradient to every term.
    d.exponentials = d.probabilities * s.inverse_sums + d.sums
    # exp is its own derivative.
    d.shifted = d.exponentials * s.exponentials
    # Repeated over V, with a minus sign. The loss does not depend on it: this is zero up to rounding.
    d.maxima = -d.shifted.sum(1, keepdim=True)
    # Used twice: in the difference, and where a logit was the largest of its row.
    is_maximum = F.one_hot(s.logits.max(1).indices, num_classes=s.logits.shape[1])
    d.logits = d.shifted + d.maxima * is_maximum

    # logits = activation @ W2 + b2, b2 repeated over B
    d.activation = d.logits @ net.W2.T
    d.W2 = s.activation.T @ d.logits
    d.b2 = d.logits.sum(0)
    # tanh' = 1 - tanh²: a saturated unit, near -1 or 1, lets next to nothing through.
    d.scaled = d.activation * (1 - s.activation**2)

    # scaled = gain * normalised + bias, gain and bias repeated over B
    d.gain = (d.scaled * s.normalised).sum(0)
    d.bias = d.scaled.sum(0)
    d.normalised = d.scaled * net.gain
    # normalised = difference * inverse_std, inverse_std repeated over B
    d.inverse_std = (d.normalised * s.difference).sum(0)
    # (x^(-1/2))' = -1/2 x^(-3/2)
    d.variance = d.inverse_std * -0.5 * (s.variance + EPS) ** -1.5
    # A sum over the batch, divided by n - 1: every example gets the same share.
    d.squared_difference = d.variance / (n - 1) * torch.ones_like(s.squared_difference)
    # Used twice: in normalised, and squared.
    d.difference = d.normalised * s.inverse_std + d.squared_difference * 2 * s.difference
    # Repeated over B, with a minus sign.
    d.mean = -d.difference.sum(0)
    # Used twice: in the difference, and in the mean, of which every example is one n-th.
    d.preactivation = d.difference + d.mean / n

    # preactivation = concatenated @ W1 + b1, b1 repeated over B
    d.concatenated = d.preactivation @ net.W1.T
    d.W1 = s.concatenated.T @ d.preactivation
    d.b1 = d.preactivation.sum(0)
    # The same numbers in another shape: (B, T*C) -> (B, T, C)
    d.embedded = d.concatenated.view_as(s.embedded)
    # A row of C was used wherever its character stood in a context: what comes back is added up.
    d.C = torch.zeros_like(net.C).index_add_(0, contexts.flatten(), d.embedded.flatten(end_dim=1))
    return vars(d)


def autograd_steps(net: HandMadeMLP, s: SimpleNamespace) -> dict[str, Tensor]:
    """PyTorch's own gradient for everything that `backward_steps` computes."""
    tensors = {**vars(s), **dict(net.named_parameters())}
    del tensors["loss"]
    return dict(zip(tensors, torch.autograd.grad(s.loss, list(tensors.values())), strict=True))


@dataclass(frozen=True)
class Comparison:
    """One gradient beside another.

    Attributes:
        name: of the step or parameter.
        exact: every number equal, bit for bit.
        close: every number within `|a - b| <= 1e-8 + 1e-5 |b|`, the defaults of `torch.allclose`.
        largest: the largest `|a - b|`.
    """

    name: str
    exact: bool
    close: bool
    largest: float


def compare(by_hand: dict[str, Tensor], by_autograd: dict[str, Tensor]) -> list[Comparison]:
    """Compare gradient by gradient, in the order of `by_hand`."""
    return [
        Comparison(
            name,
            exact=torch.equal(ours, by_autograd[name]),
            close=torch.allclose(ours, by_autograd[name]),
            largest=(ours - by_autograd[name]).abs().max().item(),
        )
        for name, ours in by_hand.items()
    ]


def cross_entropy_backward(logits: Tensor, targets: Tensor) -> Tensor:
    """From the loss to the logits in one expression: (softmax(logits) - one_hot(targets)) / B.

    With p = softmax(l) and target y, one row's loss is -log p_y = log Σ_j exp(l_j) - l_y. Its derivative for
    l_k is exp(l_k) / Σ_j exp(l_j), that is p_k, less 1 where k = y. The mean over the batch divides by B.

    Args:
        logits: (B, V).
        targets: int64 (B,).

    Returns:
        The gradient of the mean loss for the logits, (B, V).
    """
    return (logits.softmax(1) - F.one_hot(targets, num_classes=logits.shape[1])) / len(targets)


def batch_norm_backward(dscaled: Tensor, normalised: Tensor, inverse_std: Tensor, gain: Tensor) -> Tensor:
    """From BatchNorm's outputs to its inputs in one expression.

    For one unit let x_i be the inputs, m their mean, v their variance, r = (v + eps)^(-1/2),
    z_i = (x_i - m) r, and g_i the gradient for z_i: gain times the one for the output. x_i acts on the loss
    in three ways:

        directly             dz_i/dx_i = r                                      r g_i
        through the mean     dm/dx_i = 1/n, dz_j/dm = -r                       -r/n Σ_j g_j
        through the          dv/dx_i = 2 (x_i - m) / (n-1) = 2 z_i / (r (n-1)),
            variance         dr/dv = -r³/2, dz_j/dr = z_j / r                  -r/(n-1) z_i Σ_j g_j z_j

    (The variance depends on m, too, but its derivative for m is zero: the differences sum to zero.) Added up:

        dx_i = r/n (n g_i - Σ_j g_j - n/(n-1) z_i Σ_j g_j z_j)

    Args:
        dscaled: gradient for BatchNorm's outputs, (B, H).
        normalised: z, (B, H).
        inverse_std: r, (H,).
        gain: (H,).

    Returns:
        The gradient for BatchNorm's inputs, (B, H).
    """
    n = len(dscaled)
    sum_g, sum_gz = dscaled.sum(0), (dscaled * normalised).sum(0)
    return gain * inverse_std / n * (n * dscaled - sum_g - n / (n - 1) * normalised * sum_gz)


@torch.no_grad()
def loss_and_gradients(
    net: HandMadeMLP, contexts: Tensor, targets: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """The loss of a batch and, by the short forms, its gradient for each of `net.parameters()`."""
    concatenated = net.C[contexts].view(len(targets), -1)  # (B, T*C)
    preactivation = concatenated @ net.W1 + net.b1  # (B, H)
    variance, mean = torch.var_mean(preactivation, dim=0)  # (H,), over n - 1
    inverse_std = (variance + EPS).rsqrt()
    normalised = (preactivation - mean) * inverse_std
    activation = torch.tanh(net.gain * normalised + net.bias)
    logits = activation @ net.W2 + net.b2  # (B, V)

    dlogits = cross_entropy_backward(logits, targets)
    dscaled = dlogits @ net.W2.T * (1 - activation**2)
    dpreactivation = batch_norm_backward(dscaled, normalised, inverse_std, net.gain)
    dembedded = (dpreactivation @ net.W1.T).view(-1, net.C.shape[1])  # (B, T*C) -> (B*T, C)
    return F.cross_entropy(logits, targets), (
        torch.zeros_like(net.C).index_add_(0, contexts.flatten(), dembedded),  # C
        concatenated.T @ dpreactivation,  # W1
        dpreactivation.sum(0),  # b1
        activation.T @ dlogits,  # W2
        dlogits.sum(0),  # b2
        (dscaled * normalised).sum(0),  # gain
        dscaled.sum(0),  # bias
    )
