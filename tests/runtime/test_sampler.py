import inspect
import math
import shutil
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from makemore_pl import Sampler, Scorer
from makemore_pl.errors import (
    MemoryLimitError,
    NotExactError,
    RejectionWarning,
    RequestError,
    TooFewNamesError,
    VocabularyError,
)
from makemore_pl.runtime import ways
from makemore_pl.runtime.request import Request, Wish
from makemore_pl.scoring import transitions


@pytest.fixture(scope="module")
def sampler(run_folder: Path) -> Sampler:
    return Sampler(run_folder)


def test_same_seed_same_names_however_many(sampler: Sampler) -> None:
    names = sampler.sample(50, seed=1)
    assert names == sampler.sample(50, seed=1)
    assert names[:20] == sampler.sample(20, seed=1)
    assert names != sampler.sample(50, seed=2)
    assert all(name and set(name) <= set(sampler.info.characters) for name in names)


def test_without_seed_names_differ(sampler: Sampler) -> None:
    """Equal by chance: less than once in 10^50."""
    assert sampler.sample(50) != sampler.sample(50)


def test_prefix_lengths_and_filters(sampler: Sampler) -> None:
    names = sampler.sample(
        100, seed=3, prefix="ma", min_length=5, max_length=7, unique=True, match="[aeiou]$"
    )
    assert len(set(names)) == 100
    assert all(name.startswith("ma") and 5 <= len(name) <= 7 and name[-1] in "aeiou" for name in names)


def test_all_wishes_together(sampler: Sampler) -> None:
    """Ten names of a kind of which 100,000 draws would hold none."""
    options = {"suffix": "elina", "contains": ["z", "b"], "without": "jv", "banned": ["zz", "mar"]}
    options |= {"min_length": 9, "max_length": 12, "match": "^[^aeiou]", "temperature": 0.8, "top_p": 0.999}
    assert sampler.probability(**options) < 1e-6
    names = sampler.sample(10, seed=1, **options)
    assert names == sampler.sample(20, seed=1, **options)[:10]
    assert all(Wish(**options).accepts(name) and 9 <= len(name) <= 12 for name in names)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"match": r"([an])\1"}, "back-reference"),
        ({"match": r"([an])\1", "suffix": "a", "prefix": "m", "min_length": 4}, "back-reference"),
        ({"suffix": "a", "banned": ["an", "nn"], "novel": ["maya"], "min_length": 3}, "model.onnx"),
    ],
)
def test_names_are_rejected_where_they_cannot_be_drawn_exactly(
    sampler: Sampler, run_folder: Path, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    """The user is told why. The names have the same distribution as those drawn exactly."""
    alone = Sampler(shutil.copy(run_folder / "sampler.onnx", tmp_path)) if reason == "model.onnx" else sampler
    options |= {"max_length": 6, "temperature": 0.7}
    with pytest.raises(NotExactError, match=reason):
        alone.probability(**options)
    with pytest.warns(RejectionWarning, match=reason):
        names = alone.sample(2_000, seed=1, **options)
    assert all(Wish(**options).accepts(name) and len(name) <= 6 for name in names)
    if reason == "model.onnx":
        # Mean lengths of 2,000 names each: 5 standard errors apart once in a million seeds.
        exactly = [len(name) for name in sampler.sample(2_000, seed=2, **options)]
        lengths = [len(name) for name in names]
        error = math.sqrt((statistics.variance(exactly) + statistics.variance(lengths)) / 2_000)
        assert abs(statistics.mean(exactly) - statistics.mean(lengths)) < 5 * error


def test_probability_and_log_likelihoods_are_those_of_the_model(sampler: Sampler, run_folder: Path) -> None:
    names = ["anna", "ann", "ana"]
    scores = [math.exp(score.log_prob or 0) for score in Scorer(run_folder).score(names)]
    one = {"match": "^(anna|ann|ana)$"}
    assert sampler.probability(**one) == pytest.approx(sum(scores), rel=1e-5)
    assert sampler.n_names(**one) == 3
    squares = sum(p**2 for p in scores) / sum(scores) ** 2
    assert sampler.collision_probability(**one) == pytest.approx(squares, rel=1e-5)
    [batch] = sampler.stream(500, seed=1, **one)
    for name, p in zip(names, scores, strict=True):
        # Five standard deviations: once in a million seeds.
        share = p / sum(scores)
        assert abs(batch.names.count(name) / 500 - share) < 5 * math.sqrt(share * (1 - share) / 500)
        assert batch.log_probs[batch.names.index(name)] == pytest.approx(math.log(p), abs=1e-4)


def test_different_names_are_counted_beforehand(sampler: Sampler) -> None:
    wish = {"prefix": "an", "max_length": 3}
    assert sampler.n_names(**wish) == 1 + len(sampler.info.characters)
    assert sampler.n_names() is None
    names = sampler.sample(3, seed=1, unique=True, match="^an[aeo]$")
    assert sorted(names) == ["ana", "ane", "ano"]
    with pytest.raises(RequestError, match="3 different names fulfil the wish; 4 are asked for"):
        sampler.sample(4, unique=True, match="^an[aeo]$")


def test_rare_names_are_found_where_no_name_may_come_twice(sampler: Sampler) -> None:
    """Each is drawn once the likelier ones are out, which no 100,000 repeats would bring."""
    wish = {"match": "^(anna|ana|zbvjzbvj|(bz){9})$"}
    names = sampler.sample(4, seed=1, unique=True, **wish)
    assert sorted(names) == ["ana", "anna", "bz" * 9, "zbvjzbvj"]
    assert names == sampler.sample(4, seed=1, unique=True, **wish)
    assert names[:2] == sampler.sample(2, seed=1, unique=True, **wish)


def test_the_likeliest_name_and_the_shortest_requests(sampler: Sampler) -> None:
    [likeliest] = set(sampler.sample(20, temperature=0))
    assert sampler.sample(3, top_k=1) == [likeliest] * 3
    assert sampler.sample(2, prefix="anna", max_length=4) == ["anna", "anna"]  # as long as allowed
    assert sampler.sample(0) == []


def test_log_likelihood_is_what_the_scorer_says(sampler: Sampler, run_folder: Path) -> None:
    [batch] = sampler.stream(300, seed=5, max_length=60)
    scores = Scorer(run_folder).score(batch.names)
    assert [score.log_prob for score in scores] == pytest.approx(batch.log_probs, abs=1e-4)


def test_requests_that_cannot_be_met(sampler: Sampler) -> None:
    with pytest.raises(VocabularyError, match="does not know 'ö'"):
        sampler.sample(1, prefix="ö")
    with pytest.raises(TooFewNamesError, match="found 1 of 3 names") as error:
        sampler.sample(3, temperature=0, unique=True)
    assert len(error.value.names) == 1
    with pytest.raises(TooFewNamesError, match="found 0 of 1 names"), pytest.warns(RejectionWarning):
        sampler.sample(1, match=r"(z)\1{9}", seed=1)


@pytest.mark.parametrize(
    "options",
    [
        {"match": "[0-9]"},
        {"suffix": "a", "without": "a"},
        {"contains": ["ann"], "banned": ["nn"]},
        {"contains": ["ann", "bell"], "max_length": 6},
        {"prefix": "ab", "match": "^ba"},
        {"banned": [""]},
        {"without": "abcdefghijklmnopqrstuvwxyz"},
        {"match": "^anna$", "novel": ["anna"]},
        {"contains": "a", "temperature": 0, "without": "a"},
    ],
)
def test_wishes_that_contradict_each_other(sampler: Sampler, options: dict[str, Any]) -> None:
    for ask in (sampler.probability, sampler.sample, sampler.stream, partial(sampler.for_ids, ["me"])):
        with pytest.raises(RequestError, match=r"no name of 1 to .* fulfils the wish: its probability is 0"):
            ask(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"n": -1},
        {"seed": -1},
        {"max_length": 0},
        {"max_length": 10**9},
        {"min_length": 5, "max_length": 4},
        {"min_length": 10**9},
        {"prefix": "anna", "max_length": 3},
        {"match": "("},
        {"suffix": "anna", "max_length": 3},
        {"novel": "anna"},
        {"temperature": -1},
    ],
)
def test_options_out_of_range(sampler: Sampler, options: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        sampler.sample(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 10**15}, r"1,000,000,000,000,000 names of about 128 bytes"),
        ({"n": 10**400}, "only [1-9][0-9,]* texts"),
        ({"n": 183, "max_length": 2}, "only 182 texts of 1 to 2 characters for 183"),
        ({"n": 15, "max_length": 4, "prefix": "abe"}, "only 14 texts of 1 to 4"),
        ({"n": 2_198, "max_length": 3, "min_length": 3, "contains": "a"}, "only 2,197 texts"),
    ],
)
def test_more_different_names_than_there_can_be_are_refused_at_once(
    sampler: Sampler, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((RequestError, MemoryLimitError), match=message):
        sampler.stream(unique=True, **options)


def test_as_many_different_names_as_there_can_be(sampler: Sampler) -> None:
    names = sampler.sample(13, unique=True, max_length=1, temperature=30, seed=1)
    assert sorted(names) == list(sampler.info.characters)


def test_signature_is_that_of_the_options(sampler: Sampler) -> None:
    parameters = inspect.signature(sampler.sample).parameters
    assert parameters.keys() == inspect.signature(Request).parameters.keys()
    assert (parameters["n"].default, parameters["temperature"].annotation) == (20, float)
    with pytest.raises(TypeError, match="no option 'temprature'; did you mean temperature"):
        sampler.sample(1, temprature=1)  # type: ignore[call-arg]


def test_model_and_sampler_give_the_same_names(run_folder: Path) -> None:
    """Step by step with NumPy over model.onnx, and in one call of sampler.onnx."""
    options = {"seed": 11, "temperature": 0.8, "top_k": 12, "prefix": "a", "min_length": 4}
    step_by_step = Sampler(run_folder / "model.onnx").sample(300, **options)
    assert step_by_step == Sampler(run_folder / "sampler.onnx").sample(300, **options)


def test_prepared_or_not_the_names_are_the_same(sampler: Sampler, run_folder: Path) -> None:
    assert Sampler(run_folder, prepare=False).sample(3_000, seed=2) == sampler.sample(3_000, seed=2)


def test_names_and_scores_do_not_depend_on_the_size_of_a_batch(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names_and_scores() -> tuple[list[str], list[float | None]]:
        names = Sampler(run_folder / "model.onnx").sample(200, seed=3, temperature=1.1, prefix="a")
        return names, [score.log_prob for score in Scorer(run_folder).score(names)]

    names, scores = names_and_scores()
    monkeypatch.setattr(ways, "BATCH_ENTRIES", 30 * 7)  # seven names at a time
    monkeypatch.setattr(transitions, "ENTRIES_PER_CALL", 30 * 50)
    again, scores_again = names_and_scores()
    assert again == names
    assert scores_again == pytest.approx(scores, abs=1e-5)


def test_scores_of_names_one_by_one_and_together(run_folder: Path) -> None:
    scorer = Scorer(run_folder)
    names = ["emma", "zvj", "a", "isabella"]
    together = scorer.score(names)
    for name, score in zip(names, together, strict=True):
        [alone] = scorer.score([name])
        assert alone.log_prob == pytest.approx(score.log_prob, abs=1e-5)
        assert score.log_prob is not None
        assert score.per_character == pytest.approx(score.log_prob / (len(name) + 1))
        assert score.perplexity == pytest.approx(math.exp(-score.log_prob / (len(name) + 1)))
    assert together[0].per_character > together[1].per_character  # type: ignore[operator]


def test_probabilities_of_all_short_names_and_longer_ones_sum_to_one(run_folder: Path) -> None:
    """Names of one character, plus the mass of everything longer, is everything but the empty name."""
    scorer = Scorer(run_folder)
    single = sum(math.exp(s.log_prob or 0) for s in scorer.score(list(scorer.info.characters)))
    [empty] = scorer.score([""])
    assert 0 < single + math.exp(empty.log_prob or 0) < 1
