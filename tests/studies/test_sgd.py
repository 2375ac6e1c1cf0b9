"""The notebooks' loop, on a model and on raw tensors: resumed, evaluated, watched, and one by the other."""

import math

import pytest
import torch
from helpers import random_batch
from torch import Generator, nn

from makemore_pl.data.batches import Windows
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies.raw_tensors import NotebookTraining
from makemore_pl.studies.sgd import (
    LECTURE_SEED,
    SGDTraining,
    StepDecay,
    advance_watched,
    sweep_learning_rate,
)

EXAMPLES = random_batch(500)


def start_raw() -> NotebookTraining:
    return NotebookTraining(EXAMPLES, Generator().manual_seed(LECTURE_SEED), n_hidden=20)


def start_model() -> SGDTraining[BatchNormMLP]:
    generator = Generator().manual_seed(LECTURE_SEED)
    model = BatchNormMLP(27, 3, n_hidden=20)
    model.reset_parameters(generator)
    return SGDTraining(model, EXAMPLES, StepDecay(0.1, 12, 0.01), generator)


@pytest.mark.parametrize("start", [start_raw, start_model])
def test_a_resumed_run_equals_an_unbroken_one(start: type[SGDTraining[nn.Module]]) -> None:
    unbroken, first, second = start(), start(), start()
    unbroken.advance(20)
    first.advance(8)
    second.load_state_dict(first.state_dict())
    first.advance(1)  # what was loaded is not touched by further steps of the other
    assert second.step == 8
    second.advance(12)
    assert second.losses == unbroken.losses
    ours, theirs = second.state_dict(), unbroken.state_dict()
    assert torch.equal(ours["generator"], theirs["generator"])
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    assert second.evaluate(EXAMPLES) == unbroken.evaluate(EXAMPLES)


@pytest.mark.parametrize("start", [start_raw, start_model])
def test_evaluation_takes_each_example_alone(start: type[SGDTraining[nn.Module]]) -> None:
    """With the running statistics: a batch's other examples do not matter, and nothing moves."""
    training = start()
    training.advance(5)
    before = {name: value.clone() for name, value in training.state_dict()["model"].items()}
    parts: list[Windows] = list(zip(*(tensor.split(1) for tensor in EXAMPLES), strict=True))
    alone = sum(map(training.evaluate, parts)) / len(parts)
    assert training.evaluate(EXAMPLES) == pytest.approx(alone, rel=1e-5)
    after = training.state_dict()["model"]
    assert all(torch.equal(after[name], value) for name, value in before.items())
    training.advance(1)  # still in training mode
    assert not all(torch.equal(training.state_dict()["model"][n], value) for n, value in before.items())


def test_watched_steps_are_the_same_and_measured() -> None:
    watched, plain = start_model(), start_model()
    rows = advance_watched(watched, 3)
    plain.advance(3)
    assert watched.losses == plain.losses
    assert [row.step for row in rows] == [0, 1, 2]
    # The first step by hand: the update is the learning rate times the gradient.
    first = start_model()
    snapshot = take_snapshot(first.model, *first.draw_batch())
    expected = math.log10(0.1 * snapshot.of("output.weight", "gradient_to_data"))
    assert rows[0].figures["output.weight/log10_update_to_data"] == pytest.approx(expected, abs=1e-5)
    assert rows[0].figures["tanh_1/mean"] == snapshot.of("tanh_1", "mean")


def test_a_sweep_is_a_training_under_rising_rates() -> None:
    plain = start_model()
    sweep = sweep_learning_rate(start_model(), n_steps=20)
    assert sweep.rates[[0, -1]].tolist() == pytest.approx([1e-3, 1])
    plain.learning_rate = lambda step: 10 ** (-3 + 3 * step / 19)
    plain.advance(20)
    assert sweep.losses == pytest.approx(plain.losses, rel=1e-4)
