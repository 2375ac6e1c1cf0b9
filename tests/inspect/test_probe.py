"""What is measured of a step, against the same computed apart from the probe."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import random_batch

from makemore_pl.inspect.measures import Histogram
from makemore_pl.inspect.probe import Probe, take_snapshot
from makemore_pl.model.network import BatchNormMLP


def test_figures_are_those_computed_by_hand() -> None:
    model = BatchNormMLP(27, 3, n_hidden=20, init_seed=1, hidden_gain=3, batch_norm=False)
    with torch.no_grad():
        model.layers.linear_1.bias[:2] = 50  # two units that are always at their end
    contexts, targets = random_batch()
    snapshot = take_snapshot(model, contexts, targets)

    linear = model.layers.linear_1(model.layers.embedding(contexts).flatten(1))
    tanh = linear.tanh()
    logits = model.layers.output(tanh)
    weight = model.layers.output.weight
    loss = F.cross_entropy(logits, targets)
    *gradients, weight_gradient = torch.autograd.grad(loss, (linear, tanh, logits, weight))
    for name, output, gradient in zip(
        ("linear_1", "tanh_1", "output"), (linear, tanh, logits), gradients, strict=True
    ):
        expected = (output.mean(), output.std(correction=0), gradient.mean(), gradient.std(correction=0))
        found = [snapshot.of(name, figure) for figure in ("mean", "std", "gradient_mean", "gradient_std")]
        assert found == pytest.approx([value.item() for value in expected], rel=1e-4, abs=1e-9)

    assert snapshot.of("tanh_1", "saturated") == pytest.approx((tanh.abs() > 0.97).float().mean().item())
    assert snapshot.of("tanh_1", "dead") == pytest.approx(2 / 20)
    assert snapshot.at_ends["tanh_1"].tolist() == (tanh.abs() > 0.99).tolist()
    outputs, of_gradients = (snapshot.histograms[f"tanh_1/{x}"] for x in ("output", "output_gradient"))
    assert outputs.counts.sum() == tanh.numel() == of_gradients.counts.sum()
    assert (outputs.edges[0], outputs.edges[-1]) == (-1, 1)

    assert snapshot.shapes["output.weight"] == (27, 20)
    ratio = weight_gradient.std(correction=0) / weight.std(correction=0)
    assert snapshot.of("output.weight", "gradient_to_data") == pytest.approx(ratio.item(), rel=1e-5)
    # There was no step.
    assert math.isnan(snapshot.of("output.weight", "log10_update_to_data"))
    assert "output.weight/log10_update_to_data" not in snapshot.row.figures


def test_a_unit_is_dead_only_where_it_is_always_at_its_end() -> None:
    model = BatchNormMLP(27, 3, n_hidden=20, init_seed=1, hidden_gain=20, batch_norm=False)
    snapshot = take_snapshot(model, *random_batch())
    assert snapshot.of("tanh_1", "saturated") > 0.8
    assert snapshot.of("tanh_1", "dead") == 0


def test_gradients_of_a_scaled_loss_are_scaled_back() -> None:
    """As in float16, where the loss is multiplied so that small gradients do not vanish."""
    model = BatchNormMLP(27, 3, n_hidden=20, init_seed=1)
    contexts, targets = random_batch()
    expected = take_snapshot(model, contexts, targets)
    model.zero_grad()
    probe = Probe(model.layers)
    probe.attach()
    (1024 * F.cross_entropy(model(contexts), targets)).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad /= 1024
    probe.read_gradients(scale=1024)
    found = probe.detach(0)
    assert found is not None
    assert found.figures == pytest.approx(expected.figures, rel=1e-4, nan_ok=True)
    assert not probe.attached
    assert probe.detach(0) is None


def test_histogram_of_one_value_and_of_values_that_are_nan_or_infinite() -> None:
    assert Histogram.of(torch.zeros(5)).counts.sum() == 5
    assert Histogram.of(torch.tensor([1.0, 2.0, math.nan, math.inf])).counts.sum() == 2
    assert Histogram.of(torch.tensor([math.nan])).counts.sum() == 0
