"""`Scorer`: how likely the model finds given names."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from makemore_pl.errors import ModelFileError
from makemore_pl.runtime.decoding import log_softmax
from makemore_pl.runtime.engines import NO_NUMBERS, open_next_character_model, resolve_model
from makemore_pl.vocabulary import BOUNDARY

NAMES_PER_BATCH = 8_192
CHARACTERS_PER_BATCH = 1 << 20
"""A batch of long names is full before it has so many names."""
LOGITS_PER_CALL = 1 << 22
"""Logits, and ids of contexts, computed at a time: bounds the memory of a wide vocabulary."""


@dataclass(frozen=True)
class Score:
    """How likely one name is.

    Attributes:
        name: the name.
        log_prob: log-likelihood in nats, of all characters and the end of the name; None if it has a
            character that the model does not know.
        unknown: those characters, for the message; empty if there are none.
    """

    name: str
    log_prob: float | None
    unknown: str = ""

    @property
    def per_character(self) -> float | None:
        """log_prob divided by the number of draws: the characters and the boundary. Nats."""
        return None if self.log_prob is None else self.log_prob / (len(self.name) + 1)

    @property
    def perplexity(self) -> float | None:
        """exp(-per_character): 1 is certain, V is a guess among all."""
        return None if self.per_character is None else math.exp(min(-self.per_character, 700.0))


class Scorer:
    """Scores names with an exported model. Needs NumPy and ONNX Runtime alone.

    Args:
        model: a `model.onnx` or an export's folder; None takes the newest under checkpoints/.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.
    """

    def __init__(self, model: Path | str | None = None) -> None:
        self._model = open_next_character_model(resolve_model(model))
        self.info = self._model.info

    def score(self, names: Sequence[str]) -> list[Score]:
        """Scores in the order of `names`."""
        return list(self.stream(names))

    def stream(self, names: Iterable[str]) -> Iterator[Score]:
        """The same, lazily, in memory that does not grow with the number of names."""
        batch: list[str] = []
        n_characters = 0
        for name in names:
            batch.append(name)
            n_characters += len(name)
            if len(batch) == NAMES_PER_BATCH or n_characters >= CHARACTERS_PER_BATCH:
                yield from self._score_batch(batch)
                batch, n_characters = [], 0
        yield from self._score_batch(batch)

    def _score_batch(self, names: list[str]) -> Iterator[Score]:
        known = set(self.info.characters)
        unknown = ["".join(sorted(set(name) - known)) for name in names]
        log_probs = iter(self._log_probs([name for name, bad in zip(names, unknown, strict=True) if not bad]))
        for name, bad in zip(names, unknown, strict=True):
            yield Score(name, None if bad else next(log_probs), bad)

    def _log_probs(self, names: list[str]) -> list[float]:
        """Log-likelihoods of names whose characters are all known."""
        if not names:
            return []
        block_size = self.info.block_size
        # One long row: T boundaries before each name and one after it, so that a window never sees
        # another name. Only the positions of characters and ends are predicted.
        lengths = np.array([len(name) for name in names])
        ids = self.info.vocabulary.encode("".join(names))
        name_of = np.repeat(np.arange(len(names)), lengths)
        at = np.arange(len(ids)) + (name_of + 1) * block_size + name_of
        ends = np.cumsum(lengths + block_size + 1) - 1
        row = np.full(int(ends[-1]) + 1, BOUNDARY, dtype=np.int64)
        row[at] = ids
        targets = np.sort(np.concatenate([at, ends]))
        windows = np.lib.stride_tricks.sliding_window_view(row, block_size)
        drawn = np.empty(len(targets))
        step = max(1, LOGITS_PER_CALL // (len(self.info.vocabulary) + block_size))
        for start in range(0, len(targets), step):
            some = targets[start : start + step]
            log_prob = log_softmax(self._model.next_logits(windows[some - block_size]))  # (N, T) -> (N, V)
            drawn[start : start + step] = log_prob[np.arange(len(some)), row[some]]
        if np.isnan(drawn).any():
            raise ModelFileError(NO_NUMBERS)
        starts = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
        totals: list[float] = np.add.reduceat(drawn, starts).tolist()
        return totals
