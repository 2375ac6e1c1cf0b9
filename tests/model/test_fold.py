import copy

import pytest
import torch
from helpers import trained_like
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from makemore_pl.errors import FoldError
from makemore_pl.model.fold import fold, fold_layers
from makemore_pl.model.network import BatchNormMLP

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
def test_folded_model_computes_the_same_without_batch_norm(options: dict[str, object]) -> None:
    model = trained_like(BatchNormMLP(27, 3, **options))  # type: ignore[arg-type]
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm | nn.Dropout) for m in folded.modules())
    with torch.no_grad():
        # Nothing is cast yet: in float64 the two agree to rounding.
        expected = copy.deepcopy(model).double()(CONTEXTS)
        assert (folded(CONTEXTS) - expected).abs().max() < 1e-12
        assert (folded.float()(CONTEXTS) - expected).abs().max() < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_agrees_with_pytorchs_own_fusion() -> None:
    model = trained_like(BatchNormMLP(27, 3)).double()
    oracle = fuse_linear_bn_eval(model.layers.linear_1, model.layers.norm_1)  # type: ignore[arg-type]
    folded = fold(model).layers.linear_1
    assert torch.allclose(folded.weight, oracle.weight, rtol=1e-13, atol=0)
    assert torch.allclose(folded.bias, oracle.bias, rtol=1e-12, atol=1e-15)


def test_folding_twice_is_folding_once() -> None:
    once = fold(trained_like(BatchNormMLP(27, 3)))
    twice = fold(once)
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))
    assert once.layers is not twice.layers


def test_batch_norm_without_gain_and_bias() -> None:
    """PyTorch's own fusion fails on these."""
    layers = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, affine=False)).double()
    layers(torch.randn(50, 4, dtype=torch.float64) * 3 + 1)
    layers.eval()
    x = torch.randn(9, 4, dtype=torch.float64)
    assert torch.allclose(fold_layers(layers)(x), layers(x), rtol=1e-12)


def test_sync_batch_norm_is_folded_like_any_other() -> None:
    model = trained_like(BatchNormMLP(27, 3))
    synchronised = copy.deepcopy(model)
    synchronised.layers = nn.SyncBatchNorm.convert_sync_batchnorm(model.layers)
    assert isinstance(synchronised.layers.norm_1, nn.SyncBatchNorm)
    assert torch.equal(fold(synchronised).layers.linear_1.weight, fold(model).layers.linear_1.weight)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.BatchNorm1d(4)], "before this one stands nothing"),
        ([nn.Linear(4, 4), nn.Tanh(), nn.BatchNorm1d(4)], r"before this one stands 1 \(Tanh\)"),
        ([nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)], "without running statistics"),
        ([nn.Linear(4, 4), nn.BatchNorm2d(4)], "more than two dimensions"),
        ([nn.Linear(4, 4), nn.BatchNorm3d(4)], "more than two dimensions"),
        ([nn.Linear(4, 4), nn.BatchNorm1d(7)], "normalises 7 features, 0 has 4"),
    ],
)
def test_what_cannot_be_folded_is_said(layers: list[nn.Module], message: str) -> None:
    with pytest.raises(FoldError, match=message):
        fold_layers(nn.Sequential(*layers).eval())


def test_training_mode_is_refused() -> None:
    with pytest.raises(FoldError, match="eval"):
        fold(BatchNormMLP(27, 3).train())
