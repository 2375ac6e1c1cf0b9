"""The hand-made gradients against autograd, in float64 and float32, and checks that catch wrong ones."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from makemore_pl.data.batches import Windows
from makemore_pl.studies.backward import (
    EPS,
    HandMadeMLP,
    autograd_steps,
    backward_steps,
    batch_norm_backward,
    compare,
    cross_entropy_backward,
    forward_steps,
    loss_and_gradients,
)
from makemore_pl.studies.sgd import LECTURE_SEED, SGDTraining, StepDecay


@pytest.fixture
def net() -> HandMadeMLP:
    return HandMadeMLP(Generator().manual_seed(LECTURE_SEED))


@pytest.fixture
def batch() -> Windows:
    """32 examples of few characters, so that rows of C and targets come up several times."""
    generator = Generator().manual_seed(1)
    return torch.randint(6, (32, 3), generator=generator), torch.randint(6, (32,), generator=generator)


def test_size(net: HandMadeMLP) -> None:
    assert sum(parameter.numel() for parameter in net.parameters()) == 12_297


def test_the_steps_lead_to_the_loss(net: HandMadeMLP, batch: Windows) -> None:
    """The elementary steps compute what PyTorch's layers compute."""
    net.double()
    contexts, targets = batch
    hidden = F.embedding(contexts, net.C).flatten(1) @ net.W1 + net.b1
    normalised = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=True) + EPS).sqrt()
    logits = torch.tanh(normalised * net.gain + net.bias) @ net.W2 + net.b2
    s = forward_steps(net, contexts, targets)
    assert s.loss.item() == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-12)
    assert len(vars(s)) == 20


def test_every_gradient_in_float64(net: HandMadeMLP, batch: Windows) -> None:
    net.double()
    s = forward_steps(net, *batch)
    by_hand, by_autograd = backward_steps(net, s, *batch), autograd_steps(net, s)
    assert by_hand.keys() == by_autograd.keys()
    assert by_hand.keys() == (vars(s).keys() - {"loss"}) | dict(net.named_parameters()).keys()
    for name, gradient in by_hand.items():
        assert gradient.shape == by_autograd[name].shape
        assert torch.allclose(gradient, by_autograd[name], rtol=1e-10, atol=1e-16), name
    # The two that are zero in exact arithmetic, and no other.
    zero = {name for name, gradient in by_hand.items() if gradient.abs().max() < 1e-12}
    assert zero == {"maxima", "b1"}


def test_comparison_in_float32(net: HandMadeMLP, batch: Windows) -> None:
    s = forward_steps(net, *batch)
    comparisons = compare(backward_steps(net, s, *batch), autograd_steps(net, s))
    assert len(comparisons) == 26
    assert all(comparison.close for comparison in comparisons)
    assert any(comparison.exact for comparison in comparisons)
    assert all(comparison.largest == 0 for comparison in comparisons if comparison.exact)
    [logits] = [comparison for comparison in comparisons if comparison.name == "logits"]
    assert logits.largest < 1e-8  # the seed: 6e-9


def test_comparison_catches_a_wrong_gradient(net: HandMadeMLP, batch: Windows) -> None:
    s = forward_steps(net, *batch)
    by_hand, by_autograd = backward_steps(net, s, *batch), autograd_steps(net, s)
    # The usual mistake: dividing by n where Bessel's correction asks for n - 1.
    by_hand["squared_difference"] = by_hand["variance"] / 32 * torch.ones(32, 200)
    # One number of one gradient, by one part in a thousand.
    i = by_hand["W1"].abs().argmax()
    by_hand["W1"].view(-1)[i] *= 1.001
    wrong = {comparison.name for comparison in compare(by_hand, by_autograd) if not comparison.close}
    assert wrong == {"squared_difference", "W1"}


def test_short_forms_equal_the_long_way(net: HandMadeMLP, batch: Windows) -> None:
    net.double()
    s = forward_steps(net, *batch)
    d = backward_steps(net, s, *batch)
    assert torch.allclose(cross_entropy_backward(s.logits, batch[1]), d["logits"], rtol=1e-10, atol=1e-16)
    short = batch_norm_backward(d["scaled"], s.normalised, s.inverse_std, net.gain)
    assert torch.allclose(short, d["preactivation"], rtol=1e-10, atol=1e-16)
    # It belongs to the variance over n - 1: with statistics over n it is wrong.
    biased = (s.difference.var(0, unbiased=False) + EPS).rsqrt()
    wrong = batch_norm_backward(d["scaled"], s.difference * biased, biased, net.gain)
    assert not torch.allclose(wrong, d["preactivation"], rtol=1e-3)
    loss, gradients = loss_and_gradients(net, *batch)
    assert loss.item() == pytest.approx(s.loss.item(), rel=1e-12)
    for (name, parameter), gradient in zip(net.named_parameters(), gradients, strict=True):
        assert gradient.shape == parameter.shape
        assert torch.allclose(gradient, d[name], rtol=1e-10, atol=1e-16), name


def test_training_by_hand_is_training_by_autograd(net: HandMadeMLP, batch: Windows) -> None:
    """Step for step, and without a graph."""
    net.double()
    other = HandMadeMLP(Generator().manual_seed(LECTURE_SEED)).double()

    def autograd(contexts: Tensor, targets: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = forward_steps(other, contexts, targets).loss
        return loss, torch.autograd.grad(loss, list(other.parameters()))

    loss, gradients = loss_and_gradients(net, *batch)
    assert not any(tensor.requires_grad for tensor in (loss, *gradients))
    runs = [
        SGDTraining(model, batch, StepDecay(), Generator().manual_seed(3), gradients)
        for model, gradients in ((net, partial(loss_and_gradients, net)), (other, autograd))
    ]
    for run in runs:
        run.advance(30)
    assert runs[0].losses == pytest.approx(runs[1].losses, rel=1e-9)
    assert runs[0].losses[-1] < runs[0].losses[0] - 0.5


def test_calibrated_statistics_are_those_of_the_whole_set(net: HandMadeMLP, batch: Windows) -> None:
    net.double()
    net.calibrate(batch[0])
    s = forward_steps(net, *batch)
    assert torch.allclose(net(batch[0]), s.logits, rtol=1e-10)
