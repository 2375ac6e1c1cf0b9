from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from makemore_pl.errors import RequestError
from makemore_pl.runtime.decoding import Decoding, bend, draw, log_softmax, sample_stepwise

LOGITS = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], dtype=np.float32))
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def ids(uniforms: list[float], decoding: Decoding, length: int = 5) -> list[int]:
    repeated = np.repeat(LOGITS, len(uniforms), axis=0)
    return draw(repeated, np.array(uniforms, dtype=np.float32), decoding, length).tolist()


def test_smallest_id_whose_cumulative_probability_exceeds_the_uniform() -> None:
    uniforms = [0.0, 0.099, 0.101, 0.499, 0.501, 0.699, 0.701, float(BELOW_ONE)]
    assert ids(uniforms, Decoding()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_temperature() -> None:
    assert ids([0.0, float(BELOW_ONE)], Decoding(temperature=0)) == [1, 1]
    assert ids([0.0, float(BELOW_ONE)], Decoding(temperature=1e-6)) == [1, 1]
    assert ids([0.1, 0.3, 0.6, 0.9], Decoding(temperature=1e6)) == [0, 1, 2, 3]  # uniform
    # Squared probabilities at 1/2: 0.01, 0.16, 0.04, 0.09 of 0.30.
    assert ids([0.03, 0.04, 0.56, 0.58, 0.69, 0.71], Decoding(temperature=0.5)) == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, {1, 3}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_p": 0.39}, {1}),
        ({"top_p": 0.69}, {1, 3}),
        ({"top_p": 0.71}, {1, 2, 3}),
        ({"top_p": 1e-9}, {1}),
        ({"min_length": 6}, {1, 2, 3}),  # no boundary at a length of 5
        ({"min_length": 5}, {0, 1, 2, 3}),
    ],
)
def test_which_ids_may_be_drawn(options: dict[str, float], kept: set[int]) -> None:
    assert set(ids([i / 100 for i in range(100)], Decoding(**options))) == kept  # type: ignore[arg-type]


@given(
    halvings=st.lists(st.integers(0, 3), min_size=1, max_size=9) | st.permutations(range(40)),
    top_k=st.integers(0, 40),
    top_p=st.sampled_from([1.0, 0.9, 0.6, 0.3]),
)
@example(halvings=[1, 0, 1], top_k=0, top_p=0.5)
def test_what_is_kept(halvings: list[int], top_k: int, top_p: float) -> None:
    """Weights are powers of 1/2, few or many, equal or different. In the example, the first is just p of all;
    otherwise no sum is, as p has 24 bits.
    """
    v, weights = len(halvings), 0.5 ** np.array(halvings)
    kept = np.isfinite(bend(np.log(weights)[None], Decoding(top_k=top_k, top_p=top_p)))[0]
    falling = sorted(weights.tolist(), reverse=True)
    if 0 < top_k < v:
        falling = [weight for weight in falling if weight >= falling[top_k - 1]]
    together, total = Fraction(0), sum(map(Fraction, falling))
    for last in falling:
        together += Fraction(last)
        if together >= Fraction(float(np.float32(top_p))) * total:
            break
    assert kept.tolist() == (weights >= last).tolist()


def test_which_are_the_k_likeliest_of_many() -> None:
    """So many that they are not sorted, to find them."""
    scores = np.random.default_rng(0).normal(size=2_000)
    for k in (1, 2, 30, 1_000, 1_999):
        kept = np.isfinite(bend(scores[None].copy(), Decoding(top_k=k)))[0]
        assert kept.tolist() == (scores >= np.sort(scores)[-k]).tolist()


def test_the_likeliest_alone_has_the_weight_one() -> None:
    assert bend(np.array([[1.0, 4.0, 2.0]]), Decoding(temperature=0)).tolist() == [[-np.inf, 0, -np.inf]]


def test_ids_whose_weight_is_lost_in_the_sum_are_kept_without_top_p() -> None:
    assert np.isfinite(bend(np.array([[0.0, -40.0, 0.0]]), Decoding())).all()


def test_log_softmax_of_logits_whose_exponential_is_infinite() -> None:
    np.testing.assert_allclose(log_softmax(np.array([[1e4, 1e4, 0.0]])), [-np.log(2) - np.array([0, 0, 1e4])])


def test_what_bends_the_distribution() -> None:
    assert not Decoding().bends
    assert not Decoding(min_length=5).bends
    bent = ({"temperature": 0.5}, {"temperature": 2.0}, {"top_k": 1}, {"top_p": 0.5})
    assert all(Decoding(**options).bends for options in bent)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_p": float("nan")},
        {"min_length": -1},
    ],
)
def test_values_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(options)).replace("_", "-")):
        Decoding(**options)  # type: ignore[arg-type]


def chain(contexts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Ids 1, 2, 3, then the end: each certain after the one before."""
    assert contexts.shape[1] == 2
    logits = np.full((len(contexts), 4), -100.0, dtype=np.float32)
    logits[np.arange(len(contexts)), (contexts[:, -1] + 1) % 4] = 0
    return logits


def test_names_end_at_the_boundary_and_at_the_last_draw() -> None:
    tokens, log_prob = sample_stepwise(
        chain, 2, np.zeros((2, 9), np.float32) + 0.5, np.array([], np.int64), Decoding()
    )
    assert tokens.tolist() == [[1, 2, 3]] * 2
    assert log_prob.tolist() == [0, 0]
    tokens, _ = sample_stepwise(
        chain, 2, np.full((1, 2), 0.5, np.float32), np.array([], np.int64), Decoding()
    )
    assert tokens.tolist() == [[1, 2]]


def test_prefix_stands_first_and_counts() -> None:
    prefix = np.array([3, 1], dtype=np.int64)
    for steps in (2, 9):
        uniforms = np.full((2, steps), 0.5, np.float32)
        tokens, log_prob = sample_stepwise(chain, 2, uniforms, prefix, Decoding())
        assert tokens.tolist() == [[3, 1, 2, 3]] * 2
        # Neither 3 at the start nor 1 after 3 is what the chain does.
        assert log_prob == pytest.approx([-200] * 2, abs=1e-3)
        _, log_prob = sample_stepwise(chain, 2, uniforms, prefix[:1], Decoding())
        assert log_prob == pytest.approx([-100] * 2, abs=1e-3)


def test_log_prob_is_of_the_plain_model_whatever_the_temperature() -> None:
    def constant(contexts: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.repeat(LOGITS, len(contexts), axis=0)

    uniforms = np.random.default_rng(1).random((200, 8), dtype=np.float32)
    tokens, log_prob = sample_stepwise(
        constant, 3, uniforms, np.array([], np.int64), Decoding(temperature=2.0, top_k=3)
    )
    p = np.array([0.1, 0.4, 0.2, 0.3])
    for row, value in zip(tokens, log_prob, strict=True):
        name = row[row != 0]
        ended = len(name) < 8
        assert value == pytest.approx(np.log(p[name]).sum() + ended * np.log(p[0]), abs=1e-5)


def test_nothing_to_draw() -> None:
    empty = np.array([], np.int64)
    tokens, log_prob = sample_stepwise(chain, 2, np.zeros((0, 5), np.float32), empty, Decoding())
    assert tokens.shape == (0, 0)
    assert log_prob.shape == (0,)
    tokens, _ = sample_stepwise(chain, 2, np.zeros((3, 0), np.float32), empty, Decoding())
    assert tokens.shape == (3, 0)
