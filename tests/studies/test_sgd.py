import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from makemore_pl.data.batches import Windows
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies.raw_tensors import NotebookTraining
from makemore_pl.studies.sgd import LECTURE_SEED, SGDTraining, StepDecay, Training


@pytest.fixture
def examples() -> Windows:
    generator = Generator().manual_seed(1)
    return torch.randint(27, (500, 3), generator=generator), torch.randint(27, (500,), generator=generator)


def start(kind: str, examples: Windows) -> Training:
    generator = Generator().manual_seed(LECTURE_SEED)
    if kind == "raw":
        return NotebookTraining(examples, generator, n_hidden=20)
    model = BatchNormMLP(27, 3, n_hidden=20)
    model.reset_parameters(generator)
    return SGDTraining(model, examples, StepDecay(0.1, 12, 0.01), generator)


def test_learning_rate_steps_down() -> None:
    rate = StepDecay(0.1, 3, 0.01)
    assert [rate(step) for step in range(5)] == [0.1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize("kind", ["raw", "model"])
def test_stopped_and_gone_on_with_equals_unbroken(kind: str, examples: Windows) -> None:
    unbroken, first, second = (start(kind, examples) for _ in range(3))
    unbroken.advance(20)
    first.advance(8)
    second.load_state_dict(first.state_dict())
    first.advance(1)  # what was loaded is no longer touched by what goes on
    assert second.step == 8
    second.advance(12)
    assert second.losses == unbroken.losses
    ours, theirs = second.state_dict(), unbroken.state_dict()
    assert torch.equal(ours["generator"], theirs["generator"])
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    assert second.evaluate(examples) == unbroken.evaluate(examples)


class RawNetwork(nn.Module):
    """`NotebookTraining`'s network by PyTorch's own functions, to check one by the other."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.tensors = nn.ParameterDict({n: t.detach().clone() for n, t in tensors.items()})

    def forward(self, contexts: torch.Tensor) -> torch.Tensor:
        t = self.tensors
        hidden = F.embedding(contexts, t["C"]).flatten(1) @ t["W1"]
        normalised = F.batch_norm(hidden, None, None, training=True, eps=1e-12)
        bessel = ((len(hidden) - 1) / len(hidden)) ** 0.5  # PyTorch normalises by n, the lectures by n - 1
        return torch.tanh(t["gain"] * normalised * bessel + t["bias"]) @ t["W2"] + t["b2"]


def test_raw_loop_is_plain_sgd_on_a_batch_norm_mlp(examples: Windows) -> None:
    raw = start("raw", examples)
    assert isinstance(raw, NotebookTraining)
    network = RawNetwork(raw.parameters)
    generator = Generator()
    generator.set_state(raw.generator.get_state())
    ours = SGDTraining(network, examples, StepDecay(), generator)
    for training in (raw, ours):
        training.advance(20)
    assert ours.losses == pytest.approx(raw.losses, abs=1e-4)
    for name, parameter in raw.parameters.items():
        assert torch.allclose(parameter, network.tensors[name], atol=1e-4), name
    # The statistics follow the batches' by a thousandth at each step: after 20, 98 % is the start.
    assert raw.running_mean.abs().max() > 0
    assert (raw.running_std - 0.98).abs().max() < 0.1


def test_evaluation_takes_each_example_alone(examples: Windows) -> None:
    """With the running statistics: a batch's other examples do not matter, and nothing moves."""
    for kind in ("raw", "model"):
        training = start(kind, examples)
        training.advance(5)
        before = {name: value.clone() for name, value in training.state_dict()["model"].items()}
        whole = training.evaluate(examples)
        parts = [
            training.evaluate((examples[0][i : i + 1], examples[1][i : i + 1]))
            for i in range(len(examples[1]))
        ]
        assert whole == pytest.approx(sum(parts) / len(parts), rel=1e-5)
        after = training.state_dict()["model"]
        assert all(torch.equal(after[name], value) for name, value in before.items())
        training.advance(1)  # still in training mode
        assert not all(torch.equal(training.state_dict()["model"][n], value) for n, value in before.items())
