"""`Scorer`: how likely the model finds given names."""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import DataError, ModelFileError, RequestError
from makemore_pl.exported.metadata import MODEL_FILE, ModelInfo, find_model
from makemore_pl.runtime.decoding import log_softmax
from makemore_pl.runtime.engines import NextCharacterModel, open_engine
from makemore_pl.runtime.request import expect_several
from makemore_pl.scoring.character_ids import CharacterIds
from makemore_pl.scoring.spelling import spelled
from makemore_pl.scoring.text_column import TEXTS_PER_PIECE, TextColumn, pieces
from makemore_pl.scoring.transitions import Transitions
from makemore_pl.scoring.windows import Windows
from makemore_pl.text import PLAIN

LARGEST_EXPONENT = 700.0
"""exp of more is infinite."""


@dataclass(frozen=True)
class Score:
    """The likelihood of one name, in the spelling of the training names."""

    name: str
    log_prob: float | None  # nats, of all characters and the end of the name; None if a character is unknown
    unknown: str = ""  # the characters that the model does not know
    label: str | None = None  # the likeliest; None if it was asked for, or there are none
    label_probability: float | None = None  # of the likeliest label, given the name

    @property
    def per_character(self) -> float | None:
        """log_prob divided by the number of draws: the characters and the boundary. Nats."""
        return None if self.log_prob is None else self.log_prob / (len(self.name) + 1)

    @property
    def perplexity(self) -> float | None:
        """exp(-per_character): 1 is certain, V is a guess among all."""
        return None if self.per_character is None else math.exp(min(-self.per_character, LARGEST_EXPONENT))


class ScoreColumns(NamedTuple):
    """The same of n names, column by column: arrays (n,).

    NaN in rows without a text, and for texts with unknown characters.
    """

    log_prob: NDArray[np.float64]
    per_character: NDArray[np.float64]
    unknown: NDArray[np.object_]  # texts, empty for most; None in rows without a text
    label: NDArray[np.object_]  # the likeliest; None where there is none to guess
    label_probability: NDArray[np.float64]

    @property
    def perplexity(self) -> NDArray[np.float64]:
        """As of a `Score`, (n,)."""
        return np.exp(np.minimum(-self.per_character, LARGEST_EXPONENT))

    def take(self, places: NDArray[np.int64]) -> "ScoreColumns":
        """The figures in other places; -1 is a row without a text."""
        numbers = (self.log_prob, self.per_character, self.label_probability)
        log_prob, per_character, probability = (np.append(column, np.nan)[places] for column in numbers)
        unknown, label = (np.append(column, [None])[places] for column in (self.unknown, self.label))
        return ScoreColumns(log_prob, per_character, unknown, label, probability)


class Scorer:
    """Scores names with an exported model. Needs NumPy and ONNX Runtime alone.

    Where names have labels, a name's likelihood is that among names of the label asked for. Without one it is
    the sum over labels, each weighted by its share in training; by Bayes' theorem, so is the likeliest label.

    May be called from many threads, and pickled, like a `Sampler`.

    Args:
        model: a `model.onnx` or an export's folder; None takes the newest under checkpoints/.
        label: of the names.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.
        RequestError: the model has no such label.
    """

    def __init__(self, model: Path | str | None = None, *, label: str | None = None) -> None:
        path = find_model(model, MODEL_FILE)
        self._model = _open(path)
        self._path = path.absolute()
        self._take_label(label)

    @cached_property
    def _model(self) -> NextCharacterModel:
        return _open(self._path)

    def of_label(self, label: str | None) -> "Scorer":
        """The same open file, for names of another label, or of any; errors as `Scorer`."""
        scorer = copy.copy(self)
        scorer._model = self._model
        scorer._take_label(label)
        return scorer

    def _take_label(self, label: str | None) -> None:
        self._label = label
        if label is not None:
            self.info.label_id(label)  # refused at once

    @property
    def guesses_labels(self) -> bool:
        """True where names have labels, and none was asked for."""
        return bool(self.info.labels) and self._label is None

    @cached_property
    def _transitions(self) -> list[Transitions]:
        """Of the label asked for, of each label, or of names without."""
        vocab_size = len(self.info.vocabulary)
        sizes = [vocab_size] * self.info.block_size

        def transitions(label: str | None) -> Transitions:
            next_logits = self._model.for_label(label)
            return Transitions(lambda contexts: log_softmax(next_logits(contexts)), sizes, vocab_size)

        return list(map(transitions, self.info.labels if self.guesses_labels else [self._label]))

    @cached_property
    def _character_ids(self) -> CharacterIds:
        return CharacterIds(self.info.vocabulary)

    @property
    def info(self) -> ModelInfo:
        """The file's metadata."""
        return self._model.info

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_label": self._label}  # a copy opens it at its first use, see `Sampler`

    def log_probs(self, names: Any) -> NDArray[np.float64]:
        """Log-likelihoods of a column of names.

        Args:
            names: n texts: a list, a NumPy array, an Arrow array of strings or of a dictionary of strings,
                chunked or not, or a column of Polars, pandas or DuckDB.

        Returns:
            Nats, float64 (n,): NaN where there is no text (a null, None), or one with a character that the
            model does not know.

        Raises:
            DataError: something is no text.
        """
        return self.columns(names).log_prob

    def columns(self, names: Any, labels: Any = None) -> ScoreColumns:
        """All figures of a column of names.

        Args:
            names: n texts, see `log_probs`.
            labels: the label of each, n texts likewise. Then a name's likelihood is that among names of its
                label, and NaN without a label: where it is missing or empty.

        Raises:
            DataError: something is no text, or there are other than n labels.
            RequestError: the model has no such label, or this scorer is for one.
        """
        expect_several("names", names)
        numbers = None if labels is None else self._label_numbers(labels)  # (n,)
        nothing, no_texts = np.zeros(0), np.zeros(0, dtype=object)
        parts = [ScoreColumns(nothing, nothing, no_texts, no_texts, nothing)]
        n = 0
        for texts, places in pieces(names):
            texts = spelled(texts, self.info.text_rules)
            start, n = n, n + len(texts.missing if places is None else places)
            if numbers is not None and len(numbers) >= n:
                parts.append(self._score_labelled(texts, places, numbers[start:n]))
            else:
                part = self._score(texts)
                parts.append(part if places is None else part.take(places))
        if numbers is not None and len(numbers) != n:
            raise DataError(f"expected as many labels as names, {n:,}, found {len(numbers):,}")
        return ScoreColumns(*map(np.concatenate, zip(*parts, strict=True)))

    def _label_numbers(self, labels: Any) -> NDArray[np.int64]:
        """The number of each label, int64 (n,); -1 where it is missing or empty."""
        expect_several("labels", labels)
        if self._label is not None:
            raise RequestError(f"labels: this scorer is for {self._label!r:.60}")
        known = {"": -1}
        numbers = [np.zeros(0, dtype=np.int64)]
        for texts, places in pieces(labels):
            different = texts.to_list()
            for label in (one for one in dict.fromkeys(different) if one not in known):  # the first is named
                known[label] = self.info.label_id(label) - len(self.info.vocabulary)
            of_texts = np.array([*map(known.__getitem__, different), -1])
            numbers.append(of_texts[:-1] if places is None else of_texts[places])
        return np.concatenate(numbers)

    def score(self, names: Sequence[str]) -> list[Score]:
        """Scores in the order of `names`."""
        return list(self.stream(names))

    def stream(self, names: Iterable[str]) -> Iterator[Score]:
        """Score lazily, in memory that does not grow with the number of names."""
        rules = self.info.text_rules
        names = iter(names) if rules == PLAIN else map(rules.name, names)
        while batch := list(islice(names, TEXTS_PER_PIECE)):
            yield from self._scores(batch)

    def _scores(self, names: list[str]) -> Iterator[Score]:
        columns = self.columns(names)
        numbers = (columns.log_prob.tolist(), columns.label_probability.tolist())
        rows = zip(names, columns.unknown, columns.label, *numbers, strict=True)
        for name, unknown, label, log_prob, probability in rows:
            guess = () if label is None else (label, probability)
            yield Score(name, None if unknown else log_prob, unknown, *guess)

    def _log_probs(
        self, texts: TextColumn
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.object_]]:
        """log P(name | label), float64 (L, n), or log P(name), (1, n); and as `CharacterIds` gives them."""
        ids, is_known, unknown = self._character_ids(texts)
        log_probs = np.empty((len(self._transitions), len(is_known)))  # (L, n), or (1, n)
        for rows in texts.parts(self._transitions[0].windows_at_once):
            offsets = texts.offsets[rows.start : rows.stop + 1]
            windows = Windows(ids[offsets[0] : offsets[-1]], offsets - offsets[0], self.info.block_size)
            for i, transitions in enumerate(self._transitions):
                log_probs[i, rows] = windows.sums(transitions.of(windows))
        if np.isnan(log_probs[:, is_known]).any():
            raise ModelFileError(f"{self._path}: damaged (its log-likelihoods are NaN)")
        return log_probs, is_known, unknown

    def _score(self, texts: TextColumn) -> ScoreColumns:
        log_probs, is_known, unknown = self._log_probs(texts)
        label = np.full(len(is_known), None, dtype=object)
        probability = np.full(len(is_known), np.nan)
        log_prob = log_probs[0]
        if self.guesses_labels:
            with np.errstate(divide="ignore"):  # no training name has that label
                log_probs += np.log(self.info.label_shares)[:, None]
            log_prob = np.logaddexp.reduce(log_probs, axis=0)
            likeliest = log_probs.argmax(axis=0)
            label[is_known] = np.array(self.info.labels, dtype=object)[likeliest[is_known]]
            probability[is_known] = np.exp(log_probs.max(axis=0) - log_prob)[is_known]
        log_prob[~is_known] = np.nan
        return ScoreColumns(log_prob, log_prob / (texts.lengths + 1), unknown, label, probability)

    def _score_labelled(
        self, texts: TextColumn, places: NDArray[np.int64] | None, numbers: NDArray[np.int64]
    ) -> ScoreColumns:
        """Score names of the labels of these numbers (rows,), -1 for none."""
        log_probs, is_known, unknown = self._log_probs(texts)
        log_probs[:, ~is_known] = np.nan
        rows = np.arange(len(numbers)) if places is None else places
        rows = np.where(numbers < 0, -1, rows)
        log_prob = np.pad(log_probs, ((0, 0), (0, 1)), constant_values=np.nan)[numbers, rows]
        n_draws = np.append(texts.lengths + 1, 1)[rows]
        no_label = np.full(len(rows), None, dtype=object)
        nothing = np.full(len(rows), np.nan)
        return ScoreColumns(log_prob, log_prob / n_draws, np.append(unknown, [None])[rows], no_label, nothing)


def _open(path: Path) -> NextCharacterModel:
    opened = open_engine(path)
    if not isinstance(opened, NextCharacterModel):
        raise ModelFileError(f"{path}: a sampler, which gives no logits; {MODEL_FILE} is needed")
    return opened
