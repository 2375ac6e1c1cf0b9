"""The float64 reference beside ball arithmetic, and both files under a second runtime."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb, arb_mat, ctx
from helpers import random_weights, trained_like
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_loop
from torch import nn

from makemore_pl.exported.metadata import FORMS, Form
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.logits import module_logits
from makemore_pl.proof.trials import trials
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.runtime.decoding import sample_stepwise

BITS = 106
"""Twice float64's."""
REFERENCE_ERROR = 1e-13


def balls(tensor: torch.Tensor) -> list[arb]:
    """Exact: every float32 and float64 is a ball of radius 0."""
    return [arb(number) for number in tensor.detach().double().flatten().tolist()]


def enclosed_logits(layers: nn.Sequential, contexts: NDArray[np.int64]) -> list[list[arb]]:
    """Balls that hold the true logits of trained layers, BatchNorm and all, in real arithmetic."""
    x: list[list[arb]] = []
    for layer in layers:
        if isinstance(layer, nn.Embedding):
            rows = [balls(row) for row in layer.weight]
            x = [[number for token in context for number in rows[token]] for context in contexts.tolist()]
        elif isinstance(layer, nn.Linear):
            weight = arb_mat([balls(column) for column in layer.weight.T])
            bias = balls(layer.bias) if layer.bias is not None else [arb(0)] * layer.out_features
            x = [[y + b for y, b in zip(row, bias, strict=True)] for row in (arb_mat(x) * weight).tolist()]
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            root = [(variance + arb(layer.eps)).sqrt() for variance in balls(layer.running_var)]
            parameters = list(
                zip(balls(layer.running_mean), root, balls(layer.weight), balls(layer.bias), strict=True)
            )
            x = [[(y - m) / r * g + b for y, (m, r, g, b) in zip(row, parameters, strict=True)] for row in x]
        elif isinstance(layer, nn.Tanh):
            x = [[y.tanh() for y in row] for row in x]
        else:
            assert isinstance(layer, nn.Flatten)
    return x


def reference_error(model: BatchNormMLP, off: float = 0.0) -> float:
    """A proven bound of the float64 reference's largest deviation from the true logits, over all contexts.

    Args:
        model: in eval mode.
        off: added to the reference.
    """
    contexts = np.array(list(itertools.product(range(model.vocab_size), repeat=model.block_size)))
    before, ctx.prec = ctx.prec, BITS
    try:
        true = enclosed_logits(model.layers, contexts)
        reference = (module_logits(model.double())(contexts) + off).tolist()
        assert max(float(ball.rad()) for row in true for ball in row) < 1e-25
        return max(
            float(abs(ball - arb(number)).upper())
            for balls_, numbers in zip(true, reference, strict=True)
            for ball, number in zip(balls_, numbers, strict=True)
        )
    finally:
        ctx.prec = before


@pytest.mark.parametrize("options", [{}, {"n_layers": 3}, {"norm_output": True}, {"batch_norm": False}])
def test_the_reference_is_right_to_1e_13(options: dict[str, bool]) -> None:
    model = trained_like(BatchNormMLP(6, 3, n_hidden=20, **options))  # type: ignore[arg-type]
    assert 0 < reference_error(model) < REFERENCE_ERROR


@pytest.mark.slow
def test_the_reference_of_a_trained_run_is_right_to_1e_13(run_folder: Path) -> None:
    """All 14^3 contexts."""
    model = read_checkpoint(run_folder / "best.ckpt").load_model()
    assert 0 < reference_error(model) < REFERENCE_ERROR


def test_an_error_of_the_reference_is_found() -> None:
    model = trained_like(BatchNormMLP(5, 2, n_hidden=8))
    assert reference_error(model, off=1e-12) > REFERENCE_ERROR


class GatherElements(OpRun):
    """By the specification: onnx 1.23 calls np.choose, which takes no more than 64 rows."""

    op_domain = ""

    def _run(self, data: NDArray[Any], indices: NDArray[np.int64], axis: int = 0) -> tuple[NDArray[Any]]:
        return (np.take_along_axis(data, indices, axis),)


@pytest.mark.parametrize("form", FORMS)
def test_onnxs_own_reference_runs_both_files(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operator by its specification, in NumPy: the same logits and the same names."""
    # Loop collects along a new axis, says the specification; onnx 1.23 joins matrices along their first.
    monkeypatch.setattr(
        op_loop, "np", SimpleNamespace(array=np.array, empty=np.empty, vstack=np.stack), raising=True
    )
    weights = random_weights(vocab_size=6, block_size=2, hidden=(8,))
    contexts = np.array(list(itertools.product(range(6), repeat=2)))
    network = ReferenceEvaluator(build_model(weights, form))
    [logits] = network.run(None, {"context": contexts})
    np.testing.assert_allclose(logits, weights.logits(contexts), rtol=0, atol=1e-5)

    sampler = ReferenceEvaluator(
        build_sampler(weights, form, np.arange(6, dtype=np.int32)), new_ops=[GatherElements]
    )
    for trial in itertools.islice(trials(weights, steps=4), 1, None, 5):
        decoding = trial.decoding
        uniforms = trial.uniforms()
        feed = {
            "uniforms": uniforms,
            "prefix": trial.prefix,
            "temperature": np.array(decoding.temperature, np.float32),
            "top_k": np.array(decoding.top_k, np.int64),
            "top_p": np.array(decoding.top_p, np.float32),
            "min_length": np.array(decoding.min_length, np.int64),
        }
        tokens, codepoints, log_prob = sampler.run(None, feed)
        expected, expected_log_prob = sample_stepwise(
            weights.logits, 2, uniforms, trial.prefix, trial.decoding
        )
        np.testing.assert_array_equal(tokens, expected)
        np.testing.assert_array_equal(codepoints, expected)
        np.testing.assert_allclose(log_prob, expected_log_prob, rtol=1e-5, atol=1e-4)
