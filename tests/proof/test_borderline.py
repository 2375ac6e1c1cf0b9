import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from makemore_pl.proof.borderline import could_draw, has_tie
from makemore_pl.runtime.decoding import Decoding, bend, draw

Array = NDArray[np.float64]
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


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 6),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
    top_k=st.sampled_from([0, 1, 2]),
    top_p=st.sampled_from([1.0, 0.9, 0.5]),
)
def test_what_the_worst_noise_draws_at_the_border_is_explained(
    seed: int, size: int, temperature: float, top_k: int, top_p: float
) -> None:
    """All before a character up, and all after it down, or the other way; with many exact ties."""
    rng = np.random.default_rng(seed)
    decoding = Decoding(min_length=0, temperature=temperature, top_k=top_k, top_p=top_p)
    for _ in range(50):
        logits = rng.integers(-4, 5, size) / 4 * rng.choice([1, 0.97])
        up = rng.choice([-1, 1]) * np.where(np.arange(size) < rng.integers(size + 1), 1, -1)
        noisy = logits + np.where(rng.random(size) < 0.1, -up, up) / 4
        weights = np.exp(bend(noisy[None].copy(), decoding))[0]
        border = weights[: rng.integers(size)].sum() / weights.sum()
        uniform = np.float32(border + rng.choice([-1, 0, 1]) * 1e-6).clip(0, 1 - 2**-24)
        [drawn] = draw(noisy[None], uniform[None], decoding, 0)
        assert could_draw(logits, float(uniform), int(drawn), decoding, 0, 0.25)


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 60), decoding=DECODINGS)
def test_without_noise_one_character_alone_is_explained(seed: int, size: int, decoding: Decoding) -> None:
    """However large all logits are together."""
    rng = np.random.default_rng(seed)
    uniform = rng.random(1, dtype=np.float32)
    for logits in (rng.normal(size=size), 1e3 + rng.normal(size=size)):
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


CORNERS = np.array(list(itertools.product([-1, 0, 1], repeat=4)))
"""All ways in which four logits can be off by the tolerance, or not at all."""


def some_noise_draws(logits: Array, uniform: np.float32, decoding: Decoding, length: int) -> set[int]:
    """Ids that are drawn from logits off by the tolerance."""
    noisy = logits + CORNERS * TOLERANCE
    return set(draw(noisy, np.full(len(noisy), uniform), decoding, length).tolist())


def near_the_borders(logits: Array, rng: np.random.Generator) -> NDArray[np.float32]:
    borders = np.append(0, np.exp(logits).cumsum() / np.exp(logits).sum())
    near = rng.choice(borders, 20) + rng.uniform(-2, 2, 20) * TOLERANCE
    return np.append(near.clip(0, 1 - 2**-24), 0).astype(np.float32)


@pytest.mark.parametrize("decoding", [Decoding(min_length=0), Decoding(min_length=2, temperature=0.5)])
def test_plain_draws_are_explained_exactly_where_some_noise_draws_them(decoding: Decoding) -> None:
    """Not one more: a border that is wider by a thousandth of a probability is found."""
    rng = np.random.default_rng(5)
    for _ in range(60):
        logits = rng.normal(size=4)
        for uniform in near_the_borders(logits / (decoding.temperature or 1), rng):
            for length in (1, 2):
                found = some_noise_draws(logits, uniform, decoding, length)
                explained = {
                    t for t in range(4) if could_draw(logits, float(uniform), t, decoding, length, TOLERANCE)
                }
                assert explained == found


@pytest.mark.parametrize(
    "options",
    [{"top_k": 1}, {"top_k": 2}, {"top_k": 3}, {"top_p": 0.5}, {"top_p": 0.9}, {"temperature": 0.0}],
)
def test_hardly_a_draw_is_explained_that_no_noise_draws(options: dict[str, float]) -> None:
    """Among four characters of which some are nearly tied; bounds of several at once are a little wider."""
    decoding = Decoding(min_length=0, **options)  # type: ignore[arg-type]
    rng = np.random.default_rng(6)
    n_explained = n_found = 0
    for _ in range(60):
        logits = rng.choice([0, 0.5, 1.0], 4) + rng.uniform(-2, 2, 4) * TOLERANCE
        for uniform in np.append(rng.random(15, dtype=np.float32), np.float32(0)):
            found = some_noise_draws(logits, uniform, decoding, 1)
            explained = {t for t in range(4) if could_draw(logits, float(uniform), t, decoding, 1, TOLERANCE)}
            assert found <= explained
            n_found, n_explained = n_found + len(found), n_explained + len(explained)
    assert n_explained <= 1.12 * n_found


def test_what_is_ruled_out_is_not_explained_even_on_its_border() -> None:
    logits = np.array([5.0, 1.0, 0.0, 2.0])
    assert not could_draw(logits, 0.0, 0, Decoding(min_length=1), 0, 1e-5)
    assert not could_draw(logits, 0.0, 0, Decoding(min_length=1, top_k=2), 0, 1e-5)
    assert could_draw(logits, 0.0, 0, Decoding(min_length=1), 1, 1e-5)


def test_ties_at_the_edge_of_the_tolerance() -> None:
    """Off by a quarter each, the two are equal, and both kept."""
    logits, first = np.array([0.5, 0.0]), Decoding(min_length=0, top_k=1)
    assert could_draw(logits, 0.6, 1, first, 0, 0.25)
    assert not could_draw(logits, 0.6, 1, first, 0, 0.249)
    assert not could_draw(logits, 0.4, 1, first, 0, 0.25)  # the other one is kept, too, whatever the noise
    assert could_draw(logits, 0.0, 1, Decoding(temperature=0), 1, 0.25)
    assert not could_draw(logits, 0.0, 1, Decoding(temperature=0), 1, 0.249)


def test_a_nucleus_that_weights_fill_exactly() -> None:
    """Half of all weight is the first's, and comes before the others, which are out."""
    logits, half = np.log([1, 0.5, 0.25, 0.25]), Decoding(min_length=0, top_p=0.5)
    assert could_draw(logits, 0.999, 0, half, 0, 0.0)
    assert not any(could_draw(logits, 0.999, t, half, 0, 0.0) for t in (1, 2, 3))
    assert could_draw(logits, 0.999, 1, half, 0, 1e-9)


def test_a_characters_own_weight_does_not_come_before_it() -> None:
    """The first is always the likelier one, by how much nobody knows: it is in the nucleus."""
    logits, half = np.array([3.0, 0.0]), Decoding(min_length=0, top_p=0.5)
    assert could_draw(logits, 0.3, 0, half, 0, 1.0)
    assert not could_draw(logits, 0.3, 1, half, 0, 1.0)


@pytest.mark.parametrize(("off", "both"), [(5e-13, True), (1.5e-12, False)])
def test_a_uniform_on_a_border_as_float64_has_it(off: float, both: bool) -> None:
    """Of two characters, the border is at a quarter; 1e-12 are allowed for float64's own rounding."""
    for border, right in ((0.25 + off, 0), (0.25 - off, 1)):
        logits = np.log([border, 1 - border])
        explained = [could_draw(logits, 0.25, t, Decoding(), 1, 0.0) for t in (0, 1)]
        assert explained[right]
        assert explained[1 - right] == both


def test_an_interval_narrower_than_the_tolerance() -> None:
    """A character of probability 2e-7, and a uniform a hair beside its interval."""
    logits = np.log(np.array([0.3, 0.07, 2e-7, 0.6299998]))
    beside = 0.37 - 1e-7
    assert could_draw(logits, beside, 2, Decoding(), 1, 1e-5)
    assert not could_draw(logits, beside - 1e-3, 2, Decoding(), 1, 1e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 20),
    spread=st.sampled_from([0.0, 1e-4, 2e-3, 1e-2, 1.0]),
    decoding=DECODINGS,
)
def test_a_tie_is_where_noise_decides_which_characters_may_be_drawn(
    seed: int, size: int, spread: float, decoding: Decoding
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=size) * spread
    noise = rng.choice([-1, 1, rng.uniform(-1, 1)], size=(100, size)) * TOLERANCE
    kept = np.isfinite(bend(logits + noise, decoding))  # (100, V)
    if (kept != kept[0]).any():
        assert has_tie(logits, decoding, 3, TOLERANCE)
    if has_tie(logits, decoding, 3, TOLERANCE):
        assert decoding.temperature == 0 or decoding.top_k or decoding.top_p < 1
    assert not has_tie(np.arange(size) * 20.0, decoding, 3, TOLERANCE)
