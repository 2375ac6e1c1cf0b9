"""S6: folding three layers."""

import pytest
import torch
from helpers import trained_like

from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies import fold_comparison
from makemore_pl.studies.fold_comparison import compare_folded, inference_seconds


@pytest.fixture
def three_layers() -> BatchNormMLP:
    return trained_like(BatchNormMLP(27, 3, n_hidden=30, n_layers=3, output_gain=0.1, init_seed=0))


def test_three_layers_folded(three_layers: BatchNormMLP) -> None:
    found = compare_folded(three_layers)
    assert found["folded"] < 1e-12
    assert found["fused"] < 1e-12
    assert 0 < found["float32"] < 1e-4
    assert found["dropped"] > 0.1  # so there was something to fold


def test_a_wrong_fold_shows(three_layers: BatchNormMLP, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(layers: torch.nn.Sequential) -> torch.nn.Sequential:
        folded = fold(layers)
        with torch.no_grad():
            folded.linear_2.bias[3] += 1e-6
        return folded

    fold = fold_comparison.fold
    monkeypatch.setattr(fold_comparison, "fold", wrong)
    assert compare_folded(three_layers)["folded"] > 1e-9


def test_inference_is_measured_for_both(three_layers: BatchNormMLP) -> None:
    assert all(0 < seconds < 10 for seconds in inference_seconds(three_layers, batch_size=4, rounds=1))
