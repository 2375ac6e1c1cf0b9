import math

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import nn

from makemore_pl.data.batches import windows
from makemore_pl.data.corpus import encode_names
from makemore_pl.data.recoding import translate
from makemore_pl.errors import RequestError
from makemore_pl.model.initialisation import TANH_GAIN
from makemore_pl.model.network import BatchNormMLP, is_batch_norm
from makemore_pl.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("options", "n_parameters"),
    [
        ({"n_embd": 2, "n_hidden": 100, "batch_norm": False}, 3_481),
        ({"n_hidden": 100, "n_layers": 5, "norm_output": True}, 47_024),
        ({}, 12_097),
        ({"n_hidden": 100, "n_layers": 5, "batch_norm": False, "init": "zero", "output_gain": None}, 46_497),
    ],
    ids=["Bengio MLP", "deep BN-MLP", "BN-MLP", "zero"],
)
def test_parameter_counts_of_the_lectures(options: dict[str, object], n_parameters: int) -> None:
    assert BatchNormMLP(27, 3, **{"n_embd": 10, **options}).n_parameters == n_parameters  # type: ignore[arg-type]


def test_first_ten_losses_of_the_lectures_mlp() -> None:
    """S1: everything drawn by randn in the lectures' order; ten full-batch SGD steps on five names."""
    found, stream = encode_names([["emma", "olivia", "ava", "isabella", "sophia"]])
    stream = torch.from_numpy(translate(stream, found, Vocabulary("abcdefghijklmnopqrstuvwxyz")))
    contexts, targets = (ids.long() for ids in windows(stream, torch.arange(len(stream)), 3))
    assert len(targets) == 32
    sizes = {"n_embd": 2, "n_hidden": 100, "batch_norm": False}
    start = {"init": "normal", "output_gain": None, "init_seed": 2147483647}
    model = BatchNormMLP(27, 3, **sizes, **start)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(10):
        loss = F.cross_entropy(model(contexts), targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = [17.7697, 13.6564, 11.2988, 9.4525, 7.9843, 6.8913, 6.1000, 5.4520, 4.8982, 4.4147]
    assert losses == pytest.approx(expected, abs=1e-4)


def test_first_loss_is_that_of_a_uniform_guess() -> None:
    torch.manual_seed(0)
    model = BatchNormMLP(27, 3)
    contexts, targets = torch.randint(27, (4096, 3)), torch.randint(27, (4096,))
    assert F.cross_entropy(model(contexts), targets).item() == pytest.approx(math.log(27), abs=0.01)


@pytest.mark.parametrize(
    ("init", "weight_std"), [("normal", 1.0), ("scaled", 0.2), ("kaiming", TANH_GAIN / 10)]
)
def test_standard_deviations_of_the_schemes(init: str, weight_std: float) -> None:
    torch.manual_seed(0)
    model = BatchNormMLP(27, 10, n_embd=10, n_hidden=500, batch_norm=False, init=init, hidden_gain=TANH_GAIN)  # type: ignore[arg-type]
    # 50,000 draws: the estimate is within 2 % but once in 10^9 runs.
    assert model.layers.linear_1.weight.std().item() == pytest.approx(weight_std, rel=0.02)
    assert model.layers.output.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.layers.output.bias.abs().max().item() == 0


def test_output_gain_of_a_normalised_output_is_its_gain() -> None:
    model = BatchNormMLP(27, 3, norm_output=True, output_gain=0.1)
    assert model.layers.output_norm.weight.unique().tolist() == pytest.approx([0.1])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_hidden", 0),
        ("n_embd", -1),
        ("n_layers", 0),
        ("dropout", 1.0),
        ("momentum", 0.0),
        ("init", "xavier"),
        ("init_seed", 1 << 64),
    ],
)
def test_bad_arguments_are_named(option: str, value: object) -> None:
    with pytest.raises(RequestError, match=option):
        BatchNormMLP(27, 3, **{option: value})  # type: ignore[arg-type]


def test_batch_norm_of_any_kind_is_recognised_and_nothing_else() -> None:
    for norm in (
        nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        nn.BatchNorm2d(4),
        nn.BatchNorm3d(4),
        nn.SyncBatchNorm(4),
        TorchSyncBatchNorm().revert(nn.SyncBatchNorm(4)),  # what sync_batchnorm leaves after training
    ):
        assert is_batch_norm(norm), norm
    for other in (
        nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
        nn.Linear(4, 4),
    ):
        assert not is_batch_norm(other), other
