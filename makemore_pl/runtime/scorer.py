"""`Scorer`: how likely the model finds given names."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from makemore_pl.columns.character_ids import CharacterIds
from makemore_pl.columns.text_column import TEXTS_PER_PIECE, TextColumn, pieces
from makemore_pl.columns.transitions import Transitions
from makemore_pl.columns.windows import Windows
from makemore_pl.errors import ModelFileError
from makemore_pl.runtime.decoding import log_softmax
from makemore_pl.runtime.engines import NextCharacterModel, open_engine
from makemore_pl.runtime.metadata import MODEL_FILE, ModelInfo, find_model
from makemore_pl.runtime.request import expect_several

LARGEST_EXPONENT = 700.0
"""exp of more is infinite."""
CHARACTERS_PER_BATCH = 1 << 20
"""Of names that come one by one."""


@dataclass(frozen=True)
class Score:
    """How likely one name is."""

    name: str
    log_prob: float | None  # nats, of all characters and the end of the name; None if a character is unknown
    unknown: str = ""  # the characters that the model does not know

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

    @property
    def perplexity(self) -> NDArray[np.float64]:
        """As of a `Score`, (n,)."""
        return np.exp(np.minimum(-self.per_character, LARGEST_EXPONENT))

    def take(self, places: NDArray[np.int64]) -> "ScoreColumns":
        """The figures in other places; -1 is a row without a text."""
        log_prob, per_character = (np.append(column, np.nan)[places] for column in self[:2])
        return ScoreColumns(log_prob, per_character, np.append(self.unknown, [None])[places])


class Scorer:
    """Scores names with an exported model. Needs NumPy and ONNX Runtime alone.

    May be called from many threads, and pickled, like a `Sampler`.

    Args:
        model: a `model.onnx` or an export's folder; None takes the newest under checkpoints/.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.
    """

    def __init__(self, model: Path | str | None = None) -> None:
        path = find_model(model, MODEL_FILE)
        self._model = _open(path)
        self._path = path.absolute()

    @cached_property
    def _model(self) -> NextCharacterModel:
        return _open(self._path)

    @cached_property
    def _transitions(self) -> Transitions:
        vocab_size = len(self.info.vocabulary)
        sizes = [vocab_size] * self.info.block_size
        return Transitions(lambda c: log_softmax(self._model.next_logits(c)), sizes, vocab_size)

    @cached_property
    def _character_ids(self) -> CharacterIds:
        return CharacterIds(self.info.vocabulary)

    @property
    def info(self) -> ModelInfo:
        """The file's metadata."""
        return self._model.info

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path}  # a copy opens it at its first use, see `Sampler`

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

    def columns(self, names: Any) -> ScoreColumns:
        """All figures of a column of names; arguments and errors as for `log_probs`."""
        expect_several("names", names)
        parts = [ScoreColumns(np.zeros(0), np.zeros(0), np.zeros(0, dtype=object))]
        for texts, places in pieces(names):
            part = self._score(texts)
            parts.append(part if places is None else part.take(places))
        return ScoreColumns(*map(np.concatenate, zip(*parts, strict=True)))

    def score(self, names: Sequence[str]) -> list[Score]:
        """Scores in the order of `names`."""
        return list(self.stream(names))

    def stream(self, names: Iterable[str]) -> Iterator[Score]:
        """Score lazily, in memory that does not grow with the number of names."""
        batch: list[str] = []
        n_characters = 0
        for name in names:
            batch.append(name)
            n_characters += len(name)
            if n_characters >= CHARACTERS_PER_BATCH or len(batch) == TEXTS_PER_PIECE:
                yield from self._scores(batch)
                batch, n_characters = [], 0
        yield from self._scores(batch)

    def _scores(self, names: list[str]) -> Iterator[Score]:
        columns = self.columns(names)
        for name, log_prob, unknown in zip(names, columns.log_prob.tolist(), columns.unknown, strict=True):
            yield Score(name, None if unknown else log_prob, unknown)

    def _score(self, texts: TextColumn) -> ScoreColumns:
        ids, is_known, unknown = self._character_ids(texts)
        log_prob = np.zeros(len(is_known))
        for rows in texts.parts(self._transitions.windows_at_once):
            offsets = texts.offsets[rows.start : rows.stop + 1]
            windows = Windows(ids[offsets[0] : offsets[-1]], offsets - offsets[0], self.info.block_size)
            log_prob[rows] = windows.sums(self._transitions.of(windows))
        if np.isnan(log_prob[is_known]).any():
            raise ModelFileError(f"{self._path}: damaged (its log-likelihoods are NaN)")
        log_prob[~is_known] = np.nan
        return ScoreColumns(log_prob, log_prob / (texts.lengths + 1), unknown)


def _open(path: Path) -> NextCharacterModel:
    opened = open_engine(path)
    if not isinstance(opened, NextCharacterModel):
        raise ModelFileError(f"{path}: a sampler, which gives no logits; {MODEL_FILE} is needed")
    return opened
