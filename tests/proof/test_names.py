"""Names are compared one by one: a sampler that is wrong in anything is found."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import random_weights
from numpy.typing import NDArray

from makemore_pl.errors import VerificationError
from makemore_pl.proof import names as names_module
from makemore_pl.proof.names import Generate, SameNames, compare_names
from makemore_pl.proof.trials import MANY_NAMES, trials
from makemore_pl.runtime.decoding import Decoding, NextLogits, sample_stepwise

WEIGHTS = random_weights(vocab_size=9, block_size=2)
CODEPOINTS = np.arange(9, dtype=np.int32) * 3
TOLERANCE = 1e-5
STEPS = 12
TRIALS = [replace(t, n=min(t.n, 300)) for t in trials(WEIGHTS, STEPS)]
"""All kinds of requests, of fewer names."""
FEW = 36
"""For a name more, a table pays: more than 6 numbers for each of 81 contexts, 37 * 13 with the padding."""
Names = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def sampler(
    logits: NextLogits = WEIGHTS.logits, change: Callable[[Decoding], Decoding] = lambda d: d
) -> Generate:
    def generate(uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding) -> Names:
        tokens, log_prob = sample_stepwise(logits, 2, uniforms, prefix, change(decoding))
        return tokens, CODEPOINTS[tokens], log_prob

    return generate


def noisy(noise: float) -> Generate:
    """A sampler over logits that are off by at most `noise`."""
    off = np.random.default_rng(2).uniform(-noise, noise, size=(9, 9, 9))
    return sampler(lambda contexts: WEIGHTS.logits(contexts) + off[contexts[:, 0], contexts[:, 1]])


def altered(change: Callable[..., Names]) -> Generate:
    """A sampler with its outputs changed."""
    return lambda *request: change(*sampler()(*request))


def compare(*samplers: Generate) -> SameNames:
    return compare_names(samplers, TRIALS, WEIGHTS.logits, 2, CODEPOINTS, TOLERANCE)


def test_the_same_sampler_passes() -> None:
    found = compare(sampler(), sampler())
    assert found.names == sum(t.n for t in TRIALS)
    assert (found.borderline, found.log_prob) == (0, 0.0)


@pytest.mark.parametrize("most_logits", [1 << 30, 1])
def test_requests_share_cores_while_their_logits_are_few(
    monkeypatch: pytest.MonkeyPatch, most_logits: int
) -> None:
    """Two at a time on two cores: each waits for the other. Where logits take much memory, one by one."""
    monkeypatch.setattr(names_module, "CORES", 2)
    monkeypatch.setattr(names_module, "MAX_LOGITS", most_logits)
    meeting = threading.Barrier(2 if most_logits > 1 else 1)
    running: list[None] = []
    most = 0

    def generate(*request: Any) -> Names:
        nonlocal most
        running.append(None)
        most = max(most, len(running))
        meeting.wait(timeout=60)
        names = sampler()(*request)
        running.pop()
        return names

    assert len(TRIALS) % 2 == 0
    assert compare(generate).names == sum(t.n for t in TRIALS)
    assert most == meeting.parties


def test_rounding_is_explained() -> None:
    found = compare(noisy(5e-6))
    assert found.borderline <= 5
    assert 0 < found.log_prob < 1e-3


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4])
def test_larger_deviations_are_not(noise: float) -> None:
    with pytest.raises(VerificationError):
        compare(noisy(noise))


def test_a_few_borderline_names_pass_and_many_do_not() -> None:
    """All explained, one by one: but a sampler that is right has no more than one in a thousand."""
    n = sum(t.n for t in TRIALS if not t.on_edges)
    explained = lambda tolerance: compare_names(  # noqa: E731
        [noisy(tolerance)], TRIALS, WEIGHTS.logits, 2, CODEPOINTS, tolerance
    )
    assert 0 < explained(1e-4).borderline <= n / 1_000
    for samplers in ([noisy(3e-3)], [noisy(3e-3), sampler()]):  # the worst of them counts
        with pytest.raises(VerificationError, match="names differ, too many for rounding"):
            compare_names(samplers, TRIALS, WEIGHTS.logits, 2, CODEPOINTS, 3e-3)
    found = compare_names([noisy(1e-4), sampler()], TRIALS, WEIGHTS.logits, 2, CODEPOINTS, 1e-4)
    assert found.borderline > 0


@pytest.mark.parametrize(("n", "passes"), [(1_000, True), (999, False)])
def test_one_in_a_thousand_random_names_may_be_borderline(
    monkeypatch: pytest.MonkeyPatch, n: int, passes: bool
) -> None:
    """Of those on the edges all may be, and they count for nothing."""
    monkeypatch.setattr(names_module, "could_draw", lambda *args: True)
    plain = replace(TRIALS[0], n=n, seed=1)
    edges = replace(plain, on_edges=True, n=3_000)

    def generate(uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding) -> Names:
        tokens, _, log_prob = sampler()(uniforms, prefix, decoding)
        tokens[: 1 if len(tokens) == n else None, 0] = tokens[: 1 if len(tokens) == n else None, 0] % 8 + 1
        return tokens, CODEPOINTS[tokens], log_prob

    if passes:
        found = compare_names([generate], [plain, edges], WEIGHTS.logits, 2, CODEPOINTS, TOLERANCE)
        assert (found.names, found.borderline) == (n + 3_000, 1)
    else:
        with pytest.raises(VerificationError, match="1 of 999 names differ, too many"):
            compare_names([generate], [plain, edges], WEIGHTS.logits, 2, CODEPOINTS, TOLERANCE)


def test_a_sampler_opened_otherwise_is_given_a_seventh_of_the_trials() -> None:
    calls: list[int] = []

    def counted(*request: Any) -> Names:
        calls.append(len(request[0]))
        return sampler()(*request)

    compare(sampler(), counted)
    assert sorted(calls) == sorted(trial.n for trial in TRIALS[::7])  # in any order: they share the cores
    assert {0, FEW, MANY_NAMES, 300} == set(calls)


@pytest.mark.parametrize(
    "ignored",
    [{"temperature": 1.0}, {"top_k": 0}, {"top_p": 1.0}, {"min_length": 0}],
    ids=lambda options: next(iter(options)),
)
def test_a_sampler_that_ignores_an_option_is_found(ignored: dict[str, float]) -> None:
    for samplers in (
        [sampler(change=lambda d: replace(d, **ignored))],
        [sampler(), sampler(change=lambda d: replace(d, **ignored))],
    ):  # type: ignore[arg-type]
        with pytest.raises(VerificationError, match="is not the trained model"):
            compare(*samplers)


def other_last_character(tokens: NDArray[Any], codepoints: NDArray[Any], log_prob: NDArray[Any]) -> Names:
    if len(tokens) == FEW and tokens.size:
        tokens[-1, -1] = (tokens[-1, -1] + 4) % 9
    return tokens, CODEPOINTS[tokens], log_prob


def no_id(tokens: NDArray[Any], codepoints: NDArray[Any], log_prob: NDArray[Any]) -> Names:
    tokens[-1:, -1:] = 9
    return tokens, codepoints, log_prob


def longer(tokens: NDArray[Any], codepoints: NDArray[Any], log_prob: NDArray[Any]) -> Names:
    return *(np.pad(ids, ((0, 0), (0, 1))) for ids in (tokens, codepoints)), log_prob  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_last_character, "is not the trained model"),
        (no_id, "is not the trained model: with the same uniforms, id 9 where"),
        (longer, "names of 13 columns, 12 expected"),
        (lambda tokens, codepoints, log_prob: (tokens, codepoints + 1, log_prob), "code points"),
        (
            lambda tokens, codepoints, log_prob: (tokens, codepoints, log_prob + np.float32(1e-2)),
            "log-likeli",
        ),
        (lambda tokens, codepoints, log_prob: (tokens, codepoints, log_prob * np.nan), "log-likelihood"),
        (
            lambda tokens, codepoints, log_prob: (tokens[1:], codepoints[1:], log_prob[1:]),
            "expected 300 names",
        ),
        (lambda tokens, codepoints, log_prob: (tokens, codepoints, log_prob[1:]), "outputs of the shapes"),
        (lambda tokens, codepoints, log_prob: (tokens[1:], codepoints[1:], log_prob), "outputs of the"),
        (lambda tokens, codepoints, log_prob: (tokens[:, 0], codepoints[:, 0], log_prob), "outputs of"),
        (lambda tokens, codepoints, log_prob: (tokens, codepoints[:, 1:], log_prob), "outputs of the shapes"),
        (lambda tokens, codepoints, log_prob: (tokens[0], codepoints[0], log_prob), "outputs of the shapes"),
        (
            lambda tokens, codepoints, log_prob: (tokens, codepoints, log_prob[:, None]),
            "outputs of the shapes",
        ),
    ],
)
def test_any_other_output_is_found(change: Callable[..., Names], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        compare(altered(change))


def longer_last_name(tokens: NDArray[Any], codepoints: NDArray[Any], log_prob: NDArray[Any]) -> Names:
    tokens, codepoints, log_prob = longer(tokens, codepoints, log_prob)
    tokens[-1, -1] = 1
    return tokens, CODEPOINTS[tokens], log_prob


def test_names_are_judged_by_their_own_labels() -> None:
    """Each borderline draw, too; by no other's label are they all explained."""
    weights = random_weights(vocab_size=9, block_size=2, n_labels=3)
    off = np.random.default_rng(2).uniform(-1e-4, 1e-4, size=(12, 9, 9, 9))
    [plain, *_] = trials(weights, STEPS)

    def generate(
        uniforms: NDArray[Any], prefix: NDArray[Any], decoding: Decoding, labels: NDArray[Any], turn: int = 0
    ) -> Names:
        noisy = lambda contexts: weights.logits(contexts) + off[tuple(contexts.T)]  # noqa: E731
        of_others = 9 + (labels - 9 + turn) % 3
        tokens, log_prob = sample_stepwise(noisy, 2, uniforms, prefix, decoding, of_others)
        return tokens, CODEPOINTS[tokens], log_prob

    found = compare_names([generate], [plain], weights.logits, 2, CODEPOINTS, 1e-4)
    assert 0 < found.borderline < 10
    others = partial(generate, turn=1)
    with pytest.raises(VerificationError, match="is not the trained model"):
        compare_names([others], [plain], weights.logits, 2, CODEPOINTS, 1e-4)


def test_a_borderline_draw_may_make_the_longest_name_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are one column shorter, and the same."""
    asked = []
    monkeypatch.setattr(names_module, "could_draw", lambda *request: not asked.append(request))
    plain = replace(TRIALS[0], n=1_000, steps=20, width=21)
    found = compare_names([altered(longer_last_name)], [plain], WEIGHTS.logits, 2, CODEPOINTS, TOLERANCE)
    assert (found.names, found.borderline, len(asked)) == (1_000, 1, 1)


def test_log_likelihoods_are_as_near_as_the_logits_and_float32_explain() -> None:
    """Each of a name's characters may be off by twice a logit; without that, by the last bit alone."""
    [trial, *_] = [trial for trial in TRIALS if trial.n and len(trial.prefix) == 2]
    tokens, _ = sample_stepwise(WEIGHTS.logits, 2, trial.uniforms(), trial.prefix, trial.decoding)
    largest = 2e-3 * (2 + tokens.shape[1] + 1)

    def passes(change: Callable[[NDArray[Any]], NDArray[Any]], tolerance: float) -> bool:
        file = altered(lambda tokens, codepoints, log_prob: (tokens, codepoints, change(log_prob)))
        try:
            compare_names([file], [trial], WEIGHTS.logits, 2, CODEPOINTS, tolerance)
        except VerificationError as error:
            return "a log-likelihood differs" not in str(error)
        return True

    for off in (-largest, largest):
        assert passes(lambda log_prob, off=off: log_prob + np.float32(0.99 * off), 1e-3)  # type: ignore[misc]
        assert not passes(lambda log_prob, off=off: log_prob + np.float32(1.01 * off), 1e-3)  # type: ignore[misc]
    next_number = lambda log_prob: np.nextafter(log_prob, np.float32(0))  # noqa: E731
    assert passes(next_number, 0.0)
    assert not passes(lambda log_prob: next_number(next_number(log_prob)), 0.0)


def nearly_equal(contexts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logits of a network that has hardly been trained: all within the tolerance of each other."""
    return WEIGHTS.logits(contexts) * 1e-7


def test_ties_are_not_counted_as_borderline() -> None:
    """Top-k and top-p keep some characters, and rounding decides which: in all names after a context."""
    noise = np.random.default_rng(2).uniform(-1e-6, 1e-6, size=(9, 9, 9))
    rounded = sampler(lambda contexts: nearly_equal(contexts) + noise[contexts[:, 0], contexts[:, 1]])
    found = compare_names([rounded], TRIALS, nearly_equal, 2, CODEPOINTS, TOLERANCE)
    assert found.borderline > sum(t.n for t in TRIALS) / 20
    other = sampler(nearly_equal, lambda decoding: replace(decoding, min_length=0))
    with pytest.raises(VerificationError, match="not the trained model"):
        compare_names([other], TRIALS, nearly_equal, 2, CODEPOINTS, TOLERANCE)


def test_a_tie_excuses_no_draw_without_one() -> None:
    """The same characters are kept; so many uniforms that lie at a border are no chance."""
    plain = [t for t in TRIALS if not t.decoding.bends]
    with pytest.raises(VerificationError, match="too many for rounding"):
        compare_names([noisy(3e-3)], plain, WEIGHTS.logits, 2, CODEPOINTS, 3e-3)
