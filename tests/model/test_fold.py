import copy

import pytest
import torch
from helpers import trained_like
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from makemore_pl.errors import FoldError
from makemore_pl.model.fold import fold
from makemore_pl.model.network import BatchNormMLP, is_batch_norm

CONTEXTS = torch.randint(27, (500, 3), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_layers": 3, "norm_output": True},
        {"n_layers": 2, "dropout": 0.5},
        {"batch_norm": False},
        {"batch_norm": False, "norm_output": True},
    ],
)
def test_folded_layers_compute_the_same_without_batch_norm(options: dict[str, object]) -> None:
    model = trained_like(BatchNormMLP(27, 3, **options))  # type: ignore[arg-type]
    before = copy.deepcopy(model.state_dict())
    folded = fold(model.layers)
    assert not any(is_batch_norm(layer) or isinstance(layer, nn.Dropout) for layer in folded)
    with torch.no_grad():
        # Nothing is cast yet: in float64 the two agree to rounding.
        expected = copy.deepcopy(model).double()(CONTEXTS)
        assert (folded(CONTEXTS) - expected).abs().max() < 1e-12
        assert (folded.float()(CONTEXTS) - expected).abs().max() < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_agrees_with_pytorchs_own_fusion() -> None:
    layers = trained_like(BatchNormMLP(27, 3)).double().layers
    oracle = fuse_linear_bn_eval(layers.linear_1, layers.norm_1)  # type: ignore[arg-type]
    folded = fold(layers).linear_1
    assert torch.allclose(folded.weight, oracle.weight, rtol=1e-13, atol=0)
    assert torch.allclose(folded.bias, oracle.bias, rtol=1e-12, atol=1e-15)


def test_folding_twice_is_folding_once() -> None:
    once = fold(trained_like(BatchNormMLP(27, 3)).layers)
    twice = fold(once)
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))
    assert once is not twice


def test_batch_norm_without_gain_and_bias() -> None:
    """PyTorch's own fusion fails on these."""
    layers = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, affine=False)).double()
    layers(torch.randn(50, 4, dtype=torch.float64) * 3 + 1)
    layers.eval()
    x = torch.randn(9, 4, dtype=torch.float64)
    assert torch.allclose(fold(layers)(x), layers(x), rtol=1e-12)


def test_every_kind_of_batch_norm_is_folded_alike() -> None:
    """Synchronised, and as Lightning hands it back after training with `sync_batchnorm`."""
    model = trained_like(BatchNormMLP(27, 3))
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    handed_back = TorchSyncBatchNorm().revert(copy.deepcopy(synchronised)).eval()
    assert isinstance(synchronised.layers.norm_1, nn.SyncBatchNorm)
    assert not isinstance(handed_back.layers.norm_1, nn.BatchNorm1d | nn.SyncBatchNorm)
    expected = fold(model.layers).state_dict()
    for other in (synchronised, handed_back):
        assert all(torch.equal(v, expected[k]) for k, v in fold(other.layers).state_dict().items())


def test_what_is_no_batch_norm() -> None:
    others = [nn.Linear(3, 3), nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.Tanh()]
    assert not any(is_batch_norm(m) for m in [*others, nn.InstanceNorm1d(3, track_running_stats=True)])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.BatchNorm1d(4)], "before this one is nothing"),
        ([nn.Linear(4, 4), nn.Tanh(), nn.BatchNorm1d(4)], r"before this one is 1 \(Tanh\)"),
        ([nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)], "without running statistics"),
        ([nn.Linear(4, 4), nn.BatchNorm2d(4)], "more than two dimensions"),
        ([nn.Linear(4, 4), nn.BatchNorm3d(4)], "more than two dimensions"),
        ([nn.Linear(4, 4), nn.BatchNorm1d(7)], "normalises 7 features, 0 has 4"),
    ],
)
def test_what_cannot_be_folded_is_said(layers: list[nn.Module], message: str) -> None:
    with pytest.raises(FoldError, match=message):
        fold(nn.Sequential(*layers).eval())


def test_training_mode_is_refused() -> None:
    with pytest.raises(FoldError, match="eval"):
        fold(BatchNormMLP(27, 3).train().layers)
