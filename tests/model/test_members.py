import copy
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from helpers import RunCommand, open_graph, random_batch, trained_like
from torch import Tensor, nn

from makemore_pl.errors import RequestError
from makemore_pl.exported.metadata import Form
from makemore_pl.graph.forms import build_model
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.model.members import BlockLinear
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.certificate import certify
from makemore_pl.proof.logits import float32_tolerance
from makemore_pl.proof.network_reader import stored_network

SMALL = {"n_embd": 4, "n_hidden": 6, "n_layers": 2, "init_seed": 1}


def member(model: BatchNormMLP, number: int) -> BatchNormMLP:
    """One member of a network as a network of its own, from the rows of the weights that are its own."""
    own = BatchNormMLP(27, 3, n_embd=4, n_hidden=6, n_layers=2)
    state = own.state_dict()
    for name, value in model.state_dict().items():
        rows = slice(number * len(state[name]), (number + 1) * len(state[name])) if value.ndim else ()
        state[name] = value if name == "layers.embedding.weight" else value[rows]
    own.load_state_dict(state)
    return own.eval()


def test_members_are_networks_of_their_own_and_the_logits_their_mean() -> None:
    model = trained_like(BatchNormMLP(27, 3, n_members=3, **SMALL)).double()  # type: ignore[arg-type]
    contexts, _ = random_batch(200)
    expected = torch.stack([member(model, m).double()(contexts) for m in range(3)], dim=1)  # (B, M, V)
    assert (model(contexts, by_member=True) - expected).abs().max() < 1e-12
    assert (model(contexts) - expected.mean(dim=1)).abs().max() < 1e-12
    assert expected.std(dim=1).min() > 0  # they are not the same network three times


def test_a_block_linear_is_a_wide_linear_with_zeros_outside_its_blocks() -> None:
    blocks = BlockLinear(3, 4, 5, bias=True)
    wide = nn.Linear(12, 15)
    wide.weight, wide.bias = nn.Parameter(torch.block_diag(*blocks.blocks())), blocks.bias  # type: ignore[no-untyped-call]
    inputs = torch.randn(7, 12)
    assert torch.allclose(blocks(inputs), wide(inputs), atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"norm_output": True}, {"batch_norm": False}, {"n_layers": 1}])
def test_folded_members_are_one_wide_network(options: dict[str, object]) -> None:
    model = trained_like(BatchNormMLP(27, 3, n_members=3, dropout=0.2, **SMALL | options))  # type: ignore[arg-type]
    contexts, _ = random_batch(500)
    weights = FoldedWeights.from_layers(fold(model.layers))
    assert all(len(bias) == 18 for _, bias in weights.hidden)
    assert weights.vocab_size == 27
    expected = model.double()(contexts).detach().numpy()
    assert abs(weights.logits(contexts.numpy()) - expected).max() < 1e-12


def dense(weights: FoldedWeights) -> FoldedWeights:
    """The same network with zeros outside the blocks."""
    first, *blocks = weights.hidden
    wide = [(torch.block_diag(*map(torch.from_numpy, weight)).numpy(), bias) for weight, bias in blocks]
    return replace(weights, hidden=[first, *wide])


@pytest.mark.parametrize("form", ["mlp", "fused"])
def test_the_certificate_of_blocks_is_at_most_that_of_the_wide_network(form: Form) -> None:
    options = {"n_members": 3, "n_hidden": 8, "n_layers": 3, "init_seed": 1}
    model = trained_like(BatchNormMLP(11, 3, output_gain=0.2, **options))  # type: ignore[arg-type]
    weights = FoldedWeights.from_layers(fold(model.layers))
    contexts = np.array(list(itertools.product(range(11), repeat=3)))
    logits = weights.logits(contexts)
    assert abs(dense(weights).logits(contexts) - logits).max() < 1e-12
    assert float32_tolerance(weights) == pytest.approx(float32_tolerance(dense(weights)))

    graph = build_model(weights, form)
    stored = stored_network(graph, weights, form)
    [*_, (weight, bias), _] = stored.later
    assert np.array_equal(weight, np.float32(weights.hidden[-1][0]))
    assert np.array_equal(bias, np.float32(weights.hidden[-1][1]))
    of_wide = stored_network(build_model(dense(weights), form), weights, form)
    blocks, wide = certify(weights, stored), certify(dense(weights), of_wide)
    [observed] = open_graph(graph).run(["logits"], {"context": contexts})
    assert abs(observed - logits).max() <= blocks.total
    assert 0 < blocks.weights <= wide.weights * (1 + 1e-12)  # float64's own rounding
    assert blocks.total < wide.total


def test_one_member_is_the_plain_network() -> None:
    plain, one = BatchNormMLP(27, 3, **SMALL), BatchNormMLP(27, 3, n_members=1, **SMALL)  # type: ignore[arg-type]
    assert str(plain) == str(one)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), one.parameters(), strict=True))


def test_each_member_learns_by_its_own_loss() -> None:
    """Its gradient is the one that it would have alone, divided by the number of members."""
    lit = LitBatchNormMLP(27, 3, n_members=3, **SMALL)
    lit.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    lit._is_logged_step = lambda: False  # type: ignore[method-assign]
    alone = [copy.deepcopy(member(lit.net, m)).train() for m in range(3)]
    contexts, targets = random_batch(64)
    lit.training_step((contexts, targets), 0).backward()  # type: ignore[no-untyped-call]
    gradient: Tensor = lit.net.layers.linear_2.weight.grad  # type: ignore[assignment, union-attr]
    for own, block in zip(alone, gradient.unflatten(0, (3, -1)), strict=True):
        F.cross_entropy(own(contexts), targets).backward()  # type: ignore[no-untyped-call]
        assert torch.allclose(block * 3, own.layers.linear_2.weight.grad, atol=1e-7)  # type: ignore[arg-type, union-attr]


def test_no_members() -> None:
    with pytest.raises(RequestError, match=r"model\.n_members must be at least 1, not 0"):
        BatchNormMLP(27, 3, n_members=0)


@pytest.mark.parametrize("form", ["mlp", "fused", "table"])
def test_trained_exported_and_proven(
    short_list: Path, makemore: RunCommand, tmp_path: Path, form: str
) -> None:
    options = "--model.n_members 3 --model.n_hidden 6 --model.n_layers 2 --trainer.max_steps 5 --run members"
    where = ("--trainer.default_root_dir", tmp_path)
    assert (
        makemore("fit", "--data.path", short_list, *options.split(), "--export.form", form, *where).code == 0
    )
    folder = tmp_path / "members"
    checkpoint = torch.load(folder / "best.ckpt", weights_only=True)
    network = LitBatchNormMLP(**checkpoint["hyper_parameters"])
    network.load_state_dict(checkpoint["state_dict"])
    contexts = torch.randint(network.net.vocab_size, (200, 3))
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    [logits] = session.run(["logits"], {"context": contexts.numpy()})
    assert abs(logits - network.eval()(contexts).detach().numpy()).max() < 1e-5
    assert makemore("verify", folder / "sampler.onnx", folder / "best.ckpt").code == 0
