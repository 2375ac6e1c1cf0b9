import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.proof.borderline import could_draw
from makemore_pl.runtime.decoding import Decoding, draw

TOLERANCE = 1e-3
"""Large, so that draws near a border are common."""
DECODINGS = st.builds(
    Decoding,
    temperature=st.sampled_from([0.0, 0.05, 0.5, 1.0, 1.7]),
    top_k=st.sampled_from([0, 0, 1, 2, 5, 50]),
    top_p=st.sampled_from([1.0, 1.0, 0.9, 0.5, 1e-9]),
    min_length=st.sampled_from([0, 1, 3]),
)


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 60),
    spread=st.sampled_from([0.0, 1e-4, 2e-3, 1.0, 8.0]),
    decoding=DECODINGS,
    length=st.integers(0, 3),
)
def test_whatever_noise_within_the_tolerance_draws_is_explained(
    seed: int, size: int, spread: float, decoding: Decoding, length: int
) -> None:
    """Among near ties, at the border of top-k and top-p, and for characters hardly ever drawn."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=size) * spread
    uniforms = rng.random(200, dtype=np.float32)
    noise = rng.choice([-1, 1, rng.uniform(-1, 1)], size=(200, size)) * TOLERANCE
    drawn = draw(logits + noise, uniforms, decoding, length)
    for uniform, token in zip(uniforms, drawn, strict=True):
        assert could_draw(logits, float(uniform), int(token), decoding, length, TOLERANCE)


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 60), decoding=DECODINGS)
def test_without_noise_one_character_alone_is_explained(seed: int, size: int, decoding: Decoding) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=size)
    uniform = rng.random(1, dtype=np.float32)
    [drawn] = draw(logits[None], uniform, decoding, 0)
    explained = [t for t in range(size) if could_draw(logits, float(uniform[0]), t, decoding, 0, 1e-13)]
    assert explained == [drawn]


@pytest.mark.parametrize(
    ("logits", "decoding"),
    [
        ([0.0, 0.0, 0.0, 0.0], Decoding(min_length=0)),
        ([0.0, 5.0, 4.9, 0.0], Decoding(min_length=0, top_k=1)),  # 2 is never kept
        ([0.0, 5.0, 1.0, 0.0], Decoding(min_length=0, top_p=0.5)),
        ([9.0, 5.0, 1.0, 0.0], Decoding(min_length=1)),  # no boundary yet
        ([0.0, 5.0, 4.9, 0.0], Decoding(min_length=0, temperature=0)),
    ],
)
def test_what_no_rounding_draws_is_not_explained(logits: list[float], decoding: Decoding) -> None:
    values = np.array(logits)
    [right] = draw(values[None], np.array([0.3], dtype=np.float32), decoding, 0)
    wrong = [t for t in range(4) if t != right]
    assert could_draw(values, 0.3, int(right), decoding, 0, 1e-5)
    assert not any(could_draw(values, 0.3, t, decoding, 0, 1e-5) for t in wrong)


def test_an_interval_narrower_than_the_tolerance() -> None:
    """A character of probability 2e-7, and a uniform a hair beside its interval."""
    logits = np.log(np.array([0.3, 0.07, 2e-7, 0.6299998]))
    beside = 0.37 - 1e-7
    assert could_draw(logits, beside, 2, Decoding(), 1, 1e-5)
    assert not could_draw(logits, beside - 1e-3, 2, Decoding(), 1, 1e-5)
