from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from makemore_pl.errors import VerificationError
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.proof.contexts import ContextSet
from makemore_pl.proof.logits import (
    FLOAT64,
    Candidate,
    Check,
    compare,
    compare_batch_sizes,
    describe_context,
    float32_tolerance,
)

CONTEXTS = ContextSet(vocab_size=7, block_size=3)
WEIGHTS = np.random.default_rng(0).normal(size=(3, 7, 5))


def reference(contexts: NDArray[np.int64]) -> NDArray[Any]:
    """A model of 5 logits: a sum of one term for each position."""
    logits: NDArray[Any] = sum(WEIGHTS[t][contexts[:, t]] for t in range(3))
    return logits


def off_by(amount: float, context: tuple[int, ...] = (6, 0, 2)) -> Candidate:
    """The reference, but for one logit of one context."""

    def logits(contexts: NDArray[np.int64]) -> NDArray[Any]:
        values = reference(contexts).copy()
        values[(contexts == context).all(axis=1), 4] += amount
        return values

    return Candidate("candidate", logits, 1e-5)


def test_what_agrees_passes_with_its_largest_deviation() -> None:
    [check] = compare(reference, [off_by(1e-6)], CONTEXTS.chunks())
    assert check.passed
    assert check.largest == pytest.approx(1e-6)
    assert check.mean == pytest.approx(1e-6 / (343 * 5))
    assert (check.context, check.next_id, check.contexts) == ([6, 0, 2], 4, 343)


@pytest.mark.parametrize("amount", [1e-3, -1e-3, 5e-5, np.nan, np.inf])
def test_one_wrong_logit_among_all_is_found(amount: float) -> None:
    with pytest.raises(VerificationError, match=r"id 4 after context \[6, 0, 2\]"):
        compare(reference, [off_by(0.0), off_by(amount)], CONTEXTS.chunks())


@pytest.mark.parametrize("context", [(0, 0, 0), (3, 3, 3), (6, 6, 6)])
def test_a_wrong_logit_in_any_chunk_is_found(context: tuple[int, ...]) -> None:
    """Whether others follow that are right or not; figures are those of all chunks."""
    [contexts] = CONTEXTS.chunks()
    chunks = np.array_split(contexts, 7)
    with pytest.raises(VerificationError, match=r"a logit differs by 0\.001 .allowed: 1e-05., id 4"):
        compare(reference, [off_by(1e-3, context)], chunks)
    [check] = compare(reference, [off_by(1e-6, context)], chunks)
    assert (check.contexts, check.context) == (343, list(context))
    assert check.mean == pytest.approx(1e-6 / (343 * 5))


def test_every_row_and_every_id_is_judged() -> None:
    for row, logit in ((0, 0), (0, 4), (9, 0), (9, 4), (5, 2)):
        off = np.zeros((10, 5))
        off[row, logit] = 1.1e-5
        check = Check("file", 1e-5)
        check.add(np.zeros((10, 3), dtype=np.int64), off, np.zeros((10, 5)))
        assert not check.passed
        check = Check("file", 1.1e-5)  # as much is allowed
        check.add(np.arange(30).reshape(10, 3), off, np.zeros((10, 5)))
        assert check.passed
        assert (check.largest, check.context[0], check.next_id) == (1.1e-5, 3 * row, logit)


def test_wrong_shape_is_found() -> None:
    candidate = Candidate("narrow", lambda contexts: reference(contexts)[:, :4], 1e-5)
    with pytest.raises(VerificationError, match=r"narrow: logits of shape \(343, 4\), expected \(343, 5\)"):
        compare(reference, [candidate], CONTEXTS.chunks())


def test_a_file_that_is_wrong_for_small_batches_is_found() -> None:
    def only_large(contexts: NDArray[np.int64]) -> NDArray[Any]:
        return reference(contexts) + (len(contexts) == 2)

    with pytest.raises(VerificationError, match="batches of 2"):
        compare_batch_sizes(reference, Candidate("file", only_large, 1e-5), CONTEXTS)
    checks = compare_batch_sizes(reference, off_by(0.0), CONTEXTS)
    assert [check.name for check in checks] == [f"candidate, batches of {n}" for n in (1, 2, 3, 64)]


def weights_of(hidden: float, output: NDArray[np.float64]) -> FoldedWeights:
    """One hidden layer; contexts of 2 ids, embedded as 1 or -1."""
    n_hidden = output.shape[1]
    layer = (np.full((n_hidden, 2), hidden), np.zeros(n_hidden))
    return FoldedWeights(2, np.array([[1.0], [-1.0]]), [layer], (output, np.zeros(len(output))))


def test_float32_tolerance_grows_with_the_terms_not_with_the_sum() -> None:
    small, large = np.full((5, 10), 0.5), np.array([[400.0, -400.0]])
    assert float32_tolerance(weights_of(0.1, small)) == 1e-5
    # Terms of 800 in the output; 2 * 0.1 in each of the two hidden units, whose errors are multiplied by 400.
    unit = 8 * 2**-24
    assert float32_tolerance(weights_of(0.1, large)) == pytest.approx(
        unit * np.sqrt(800**2 + 2 * (400 * 0.2) ** 2)
    )
    assert float32_tolerance(weights_of(300, small)) == pytest.approx(
        unit * np.sqrt(5**2 + 10 * (0.5 * 600) ** 2)
    )


def test_float32_tolerance_adds_up_absolute_values() -> None:
    """Of weights and biases of either sign, which all cancel here."""
    embedding = np.array([[1.0, -1.0], [0.5, 0.0]])
    first, first_bias = np.array([[-3.0, 5.0, 2.0, -7.0]]), np.array([-40.0])
    output, bias = np.array([[-600.0], [1.0]]), np.array([-500.0, 0.0])
    weights = FoldedWeights(2, embedding, [(first, first_bias)], (output, bias))
    hidden = (3 + 5) + (2 + 7) + 40  # the larger id at each position, and the bias
    assert float32_tolerance(weights) == pytest.approx(8 * 2**-24 * np.hypot(600 + 500, 600 * hidden))


def test_the_tolerance_of_float64_is_the_documented_one() -> None:
    assert FLOAT64 == 1e-10


def test_float32_in_use_is_within_the_tolerance_and_a_wrong_weight_beyond() -> None:
    """Large terms that cancel, in the hidden layer: 1e-5 would refuse the very same network."""
    rng = np.random.default_rng(0)
    hidden = 300 * rng.standard_normal((8, 2))
    hidden[:, 1] = -hidden[:, 0] + rng.standard_normal(8)
    embedding, output = 1 + rng.random((9, 1)), rng.standard_normal((9, 8))
    weights = FoldedWeights(2, embedding, [(hidden, np.zeros(8))], (output, np.zeros(9)))

    def logits(contexts: NDArray[np.int64], dtype: type, off: float = 0.0) -> NDArray[Any]:
        inputs = embedding.astype(dtype)[contexts].reshape(len(contexts), 2)
        units = np.tanh(inputs @ (hidden + off).T.astype(dtype))
        return units @ output.T.astype(dtype)

    chunks = list(ContextSet(vocab_size=9, block_size=2).chunks())
    exact = lambda c: logits(c, np.float64)  # noqa: E731
    tolerance = float32_tolerance(weights)
    [check] = compare(exact, [Candidate("float32", lambda c: logits(c, np.float32), tolerance)], chunks)
    assert 1e-5 < check.largest <= tolerance < 1e-2
    with pytest.raises(VerificationError):
        compare(exact, [Candidate("wrong", lambda c: logits(c, np.float32, off=0.01), tolerance)], chunks)


def test_contexts_as_text() -> None:
    assert describe_context([0, 1, 3], "abc") == "·ac"
