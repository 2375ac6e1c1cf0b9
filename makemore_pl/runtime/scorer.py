"""`Scorer`: how likely the model finds given names."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from makemore_pl.errors import ModelFileError
from makemore_pl.runtime.decoding import log_softmax
from makemore_pl.runtime.engines import NextCharacterModel, open_engine
from makemore_pl.runtime.metadata import MODEL_FILE, ModelInfo, find_model
from makemore_pl.vocabulary import BOUNDARY

LOGITS_PER_CALL = 1 << 20
"""Logits, and ids of contexts, computed at a time: bounds the memory of a wide vocabulary."""


@dataclass(frozen=True)
class Score:
    """How likely one name is, in the spelling of the training names."""

    name: str
    log_prob: float | None  # nats, of all characters and the end of the name; None if a character is unknown
    unknown: str = ""  # the characters that the model does not know
    label: str | None = None  # the one asked for; else the likeliest, of a model with labels
    label_probability: float | None = None  # of the likeliest label, given the name

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
        self._label = label
        if label is not None:
            self.info.label_id(label)  # refused at once

    @cached_property
    def _model(self) -> NextCharacterModel:
        return _open(self._path)

    @property
    def info(self) -> ModelInfo:
        """The file's metadata."""
        return self._model.info

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_label": self._label}  # a copy opens it at its first use, see `Sampler`

    def score(self, names: Sequence[str]) -> list[Score]:
        """Scores in the order of `names`."""
        return list(self.stream(names))

    def stream(self, names: Iterable[str]) -> Iterator[Score]:
        """Score lazily, in memory that does not grow with the number of names."""
        rules = self.info.text_rules
        most = LOGITS_PER_CALL // (len(self.info.vocabulary) + self.info.block_size)
        batch: list[str] = []
        n_contexts = 0
        for name in map(rules.name, names):
            batch.append(name)
            n_contexts += len(name) + 1
            if n_contexts >= most:
                yield from self._score_batch(batch)
                batch, n_contexts = [], 0
        yield from self._score_batch(batch)

    def _score_batch(self, names: list[str]) -> Iterator[Score]:
        known = set(self.info.characters)
        unknown = ["".join(sorted(set(name) - known)) for name in names]
        scores = self._scores([name for name, bad in zip(names, unknown, strict=True) if not bad])
        for name, bad in zip(names, unknown, strict=True):
            yield Score(name, None, bad) if bad else next(scores)

    def _scores(self, names: list[str]) -> Iterator[Score]:
        """Scores of names whose characters are all known."""
        info = self.info
        if self._label is not None or not info.labels:
            label_ids = [] if self._label is None else [info.label_id(self._label)]
            for name, log_prob in zip(names, self._log_probs(names, label_ids), strict=True):
                yield Score(name, log_prob, label=self._label)
            return
        with np.errstate(divide="ignore"):
            joint = np.log(info.label_shares)[:, None]  # (L, 1)
        label_ids = [len(info.vocabulary) + number for number in range(len(info.labels))]
        joint = joint + [self._log_probs(names, [label_id]) for label_id in label_ids]  # (L, names)
        log_probs = np.logaddexp.reduce(joint, axis=0)  # (names,)
        likeliest = joint.argmax(axis=0)
        for i, name in enumerate(names):
            probability = math.exp(joint[likeliest[i], i] - log_probs[i])
            yield Score(name, float(log_probs[i]), "", info.labels[likeliest[i]], probability)

    def _log_probs(self, names: list[str], label_ids: list[int]) -> list[float]:
        """Log-likelihoods of names whose characters are all known.

        Args:
            names: the names.
            label_ids: the id of their label, if they have one.
        """
        if not names:
            return []
        block_size = self.info.block_size
        # One long row: T boundaries before each name and one after it, so that no context sees another name.
        # The N characters and ends of names are predicted.
        lengths = np.array([len(name) for name in names])
        ids = self.info.vocabulary.encode("".join(names))
        name_of = np.repeat(np.arange(len(names)), lengths)
        at = np.arange(len(ids)) + (name_of + 1) * block_size + name_of
        ends = np.cumsum(lengths + block_size + 1) - 1
        row = np.full(int(ends[-1]) + 1, BOUNDARY, dtype=np.int64)
        row[at] = ids
        targets = np.sort(np.concatenate([at, ends]))
        characters = sliding_window_view(row, block_size)[targets - block_size]  # (N, T)
        labels = np.broadcast_to(np.array(label_ids, dtype=np.int64), (len(targets), len(label_ids)))
        contexts = np.concatenate([labels, characters], axis=1)  # (N, P)
        log_probs = log_softmax(self._model.next_logits(contexts))  # (N, P) -> (N, V)
        predicted = log_probs[np.arange(len(targets)), row[targets]]  # (N,)
        if np.isnan(predicted).any():
            raise ModelFileError(f"{self._path}: damaged (its log-likelihoods are NaN)")
        starts = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
        totals: list[float] = np.add.reduceat(predicted, starts).tolist()
        return totals


def _open(path: Path) -> NextCharacterModel:
    opened = open_engine(path)
    if not isinstance(opened, NextCharacterModel):
        raise ModelFileError(f"{path}: a sampler, which gives no logits; {MODEL_FILE} is needed")
    return opened
