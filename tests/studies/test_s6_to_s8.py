"""S6 and S7: folding three layers, and what shows the health of a network."""

import math

import pytest
import torch
from helpers import trained_like
from torch import Generator, nn

from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies import fold_comparison as folding
from makemore_pl.studies.fold_comparison import compare_folded, inference_seconds
from makemore_pl.studies.saturation import advance_measured, dead_units, saturated_share, tanh_outputs
from makemore_pl.studies.sgd import SGDTraining, StepDecay


@pytest.fixture
def three_layers() -> BatchNormMLP:
    return trained_like(BatchNormMLP(27, 3, n_hidden=30, n_layers=3, output_gain=0.1, init_seed=0))


def test_three_layers_folded(three_layers: BatchNormMLP) -> None:
    found = compare_folded(three_layers)
    assert found.folded < 1e-12
    assert found.fused < 1e-12
    assert 0 < found.folded_float32 < 1e-4
    assert found.dropped > 0.1  # so there was something to fold


def test_a_wrong_fold_shows(three_layers: BatchNormMLP, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(layers: nn.Sequential) -> nn.Sequential:
        folded = fold(layers)
        with torch.no_grad():
            folded.linear_2.bias[3] += 1e-6
        return folded

    fold = folding.fold
    monkeypatch.setattr(folding, "fold", wrong)
    assert compare_folded(three_layers).folded > 1e-9


def test_inference_is_measured_for_both(three_layers: BatchNormMLP) -> None:
    assert all(0 < seconds < 10 for seconds in inference_seconds(three_layers, batch_size=4, rounds=1))


def test_saturation_and_dead_units() -> None:
    activations = torch.tensor([[0.995, 0.98, 0.995], [-0.995, 0.5, 0.1]])
    assert saturated_share(activations) == pytest.approx(4 / 6)
    assert dead_units(activations) == 1  # the last is at its end on one example alone


def test_activations_are_those_of_the_tanh_layers(three_layers: BatchNormMLP) -> None:
    contexts = torch.randint(27, (50, 3), generator=Generator().manual_seed(1))
    outputs = tanh_outputs(three_layers, contexts)
    assert list(outputs) == ["tanh_1", "tanh_2", "tanh_3"]
    assert torch.equal(three_layers.layers.output(outputs["tanh_3"]), three_layers(contexts))


def test_update_ratios_are_those_of_the_steps_made() -> None:
    generator = Generator().manual_seed(1)
    examples = torch.randint(27, (99, 3), generator=generator), torch.randint(27, (99,), generator=generator)

    def start() -> SGDTraining[BatchNormMLP]:
        model = BatchNormMLP(27, 3, n_hidden=8, init_seed=0)
        return SGDTraining(model, examples, StepDecay(), Generator().manual_seed(2))

    measured, plain = start(), start()
    ratios = advance_measured(measured, 3)
    plain.advance(3)
    assert measured.losses == plain.losses
    assert set(ratios) == {"layers.embedding.weight", "layers.linear_1.weight", "layers.output.weight"}
    # The first step by hand: the update is the learning rate times the gradient.
    first = start()
    _, gradients = first.gradients(*first.draw_batch())
    weight = first.model.layers.output.weight
    [gradient] = [g for g, p in zip(gradients, first.parameters, strict=True) if p is weight]
    expected = math.log10(0.1 * gradient.std().item() / weight.std().item())
    assert ratios["layers.output.weight"][0] == pytest.approx(expected, abs=1e-5)
