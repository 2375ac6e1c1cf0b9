"""Findings: each with a network or figures that are unhealthy, and others that are not."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from helpers import random_batch, rows_with

from makemore_pl.inspect.findings import findings_at_start, findings_over_run, within_limits
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.model.network import BatchNormMLP

FIVE = {"n_layers": 5, "n_hidden": 100, "batch_norm": False}
UPDATE = "linear_1.weight/log10_update_to_data"


@pytest.mark.parametrize(
    ("unhealthy", "healthy", "message"),
    [
        ({**FIVE, "hidden_gain": 3}, {**FIVE, "hidden_gain": 5 / 3}, "tanh_1: .* start saturated"),
        ({"init": "normal", "batch_norm": False}, {"init": "normal"}, "tanh_1: .* start saturated"),
        ({**FIVE, "hidden_gain": 0.5}, {**FIVE, "hidden_gain": 1}, "tanh_5: .* activations fade"),
        ({**FIVE, "hidden_gain": 0.5}, {**FIVE, "batch_norm": True}, "tanh_5: .* activations fade"),
    ],
)
def test_findings_at_the_start(unhealthy: dict[str, Any], healthy: dict[str, Any], message: str) -> None:
    def findings(network: dict[str, Any]) -> list[str]:
        snapshot = take_snapshot(BatchNormMLP(27, 3, init_seed=1, **network), *random_batch(256))
        return findings_at_start(snapshot.row)

    assert any(re.match(message, finding) for finding in findings(unhealthy))
    assert findings(healthy) == []


@pytest.mark.parametrize(
    ("unhealthy", "healthy", "message"),
    [
        (
            lambda i: {"tanh_1/saturated": 0.8},
            lambda i: {"tanh_1/saturated": 0.5 if i > 9 else 0.9},
            "tanh_1: 80% of its outputs are saturated",
        ),
        # Dead to the end, or only for a while.
        (
            lambda i: {"tanh_1/dead": 0.25 if i > 3 else 0.0},
            lambda i: {"tanh_1/dead": 0.25 if i < 9 else 0.0},
            "tanh_1: 25.0% of its units are dead",
        ),
        # The first 100 steps are not judged.
        (
            lambda i: {UPDATE: -5.0},
            lambda i: {UPDATE: -4.0 if 10 <= i < 30 else -9.0},
            "changes it by 10.-5.0 .* the learning rate is too low",
        ),
        (
            lambda i: {UPDATE: -0.5},
            lambda i: {UPDATE: -2.0 if i > 9 else 0.0},
            "changes it by 10.-0.5 .* the learning rate is too high",
        ),
        (
            lambda i: {"linear_1.weight/gradient_std": 0.0},
            lambda i: {"linear_1.weight/gradient_std": float(i == 39)},
            "linear_1.weight: gets no gradient",
        ),
    ],
)
def test_findings_over_a_run(
    unhealthy: Callable[[int], dict[str, float]], healthy: Callable[[int], dict[str, float]], message: str
) -> None:
    [finding] = findings_over_run(rows_with(unhealthy))
    assert re.search(message, finding)
    assert findings_over_run(rows_with(healthy)) == []
    assert findings_over_run([]) == []


def test_a_healthy_run_is_told_with_its_limits() -> None:
    rows = rows_with(lambda i: {UPDATE: -1.5 if i >= 10 else 0.0, "tanh_1/saturated": 0.52})
    assert findings_over_run(rows) == []
    said = within_limits(rows)
    assert said.startswith("at most 52% of a layer saturated (limit 75%), no dead unit")
    assert "updates of 10^-1.5 to 10^-1.5 of the weights (limits 10^-4.5 and 10^-1;" in said
    assert "updates" not in within_limits(rows[:1])  # not yet settled
    assert within_limits([]) == ""
