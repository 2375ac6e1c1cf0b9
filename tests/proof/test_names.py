from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from makemore_pl.errors import VerificationError
from makemore_pl.proof.names import REQUESTS, Generate, compare_names
from makemore_pl.runtime.decoding import Decoding, sample_stepwise

TABLE = np.random.default_rng(1).normal(size=(9, 9, 9)) * 2
TOLERANCE = 1e-5


def logits(contexts: NDArray[np.int64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = TABLE[contexts[:, 0], contexts[:, 1]]
    return values


def sampler(noise: float = 0.0) -> Generate:
    """A sampler over logits that are off by at most `noise`."""
    off = np.random.default_rng(2).uniform(-noise, noise, size=TABLE.shape)

    def noisy(contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        return logits(contexts) + off[contexts[:, 0], contexts[:, 1]]

    return lambda uniforms, prefix, decoding: sample_stepwise(noisy, 2, uniforms, prefix, decoding)


def compare(generate: Generate) -> int:
    return compare_names(generate, logits, 9, 2, 20, TOLERANCE).borderline


def test_the_same_sampler_passes() -> None:
    found = compare_names(sampler(), logits, 9, 2, 20, TOLERANCE)
    assert found.names == sum(n for n, _, _ in REQUESTS) == 12_010
    assert (found.borderline, found.log_prob) == (0, 0.0)


def test_rounding_is_explained() -> None:
    assert compare(sampler(noise=5e-6)) <= 5


def test_larger_deviations_are_not() -> None:
    with pytest.raises(VerificationError):
        compare(sampler(noise=1e-2))


@pytest.mark.parametrize(
    "ignored",
    [{"temperature": 1.0}, {"top_k": 0}, {"top_p": 1.0}, {"min_length": 0}],
    ids=lambda options: next(iter(options)),
)
def test_a_sampler_that_ignores_an_option_is_found(ignored: dict[str, float]) -> None:
    def generate(
        uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return sample_stepwise(logits, 2, uniforms, prefix, replace(decoding, **ignored))  # type: ignore[arg-type]

    with pytest.raises(VerificationError, match="is not the trained model"):
        compare(generate)


def test_one_wrong_character_among_all_names_is_found() -> None:
    def generate(
        uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        tokens, log_prob = sampler()(uniforms, prefix, decoding)
        tokens[-1, -1] = (tokens[-1, -1] + 4) % 9
        return tokens, log_prob

    with pytest.raises(VerificationError):
        compare(generate)


def test_wrong_log_likelihood_and_wrong_count_are_found() -> None:
    def shifted(*args: object) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        tokens, log_prob = sampler()(*args)  # type: ignore[arg-type]
        return tokens, log_prob + np.float32(1e-2)

    def fewer(*args: object) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        tokens, log_prob = sampler()(*args)  # type: ignore[arg-type]
        return tokens[1:], log_prob[1:]

    with pytest.raises(VerificationError, match="log-likelihood"):
        compare(shifted)
    with pytest.raises(VerificationError, match="names, expected"):
        compare(fewer)
