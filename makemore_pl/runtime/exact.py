"""The distribution of an exported model's names, given a wish: its logits, bent, and the wish's automaton."""

import math
import threading
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import ModelFileError, NotExactError, RequestError
from makemore_pl.exported.metadata import MODEL_FILE
from makemore_pl.runtime.decoding import bend, log_softmax
from makemore_pl.runtime.engines import GraphSampler, NextCharacterModel
from makemore_pl.runtime.request import Wish
from makemore_pl.wishes.conditional import Conditional, LogProbs
from makemore_pl.wishes.mixture import Mixture

Given: TypeAlias = Conditional | Mixture
"""The distribution of names given a wish; a mixture, where each name's label is drawn, too."""

MOST_KEPT_BYTES = 64 << 20
"""Of the tables of earlier wishes."""


class Conditionals:
    """A model's distributions given a wish. The latest ones are kept: their tables take longer than names."""

    def __init__(self, model: NextCharacterModel) -> None:
        self._model = model
        self._kept: dict[Wish, Given] = {}  # the latest one comes last
        self._lock = threading.Lock()

    def of(self, wish: Wish) -> Given:
        """The distribution given a wish; errors as `given`."""
        wish = wish.spelled(self._model.info.text_rules)
        found = self._kept.get(wish) or given(self._model, wish)  # others need not wait for it
        with self._lock:
            self._kept.pop(wish, None)
            self._kept[wish] = found
            while len(self._kept) > 1 and sum(c.n_bytes for c in self._kept.values()) > MOST_KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
        return found


def next_character_model(engine: NextCharacterModel | GraphSampler) -> NextCharacterModel:
    """The engine itself; or, as `sampler.onnx` gives no logits, `model.onnx` of the same export beside it.

    Raises:
        NotExactError: there is no such file.
    """
    if isinstance(engine, NextCharacterModel):
        return engine
    if engine.model is None:
        raise NotExactError(
            f"the probabilities are in {MODEL_FILE} of the same export, which is not beside {engine.path}"
        )
    return engine.model


def given(model: NextCharacterModel, wish: Wish) -> Given:
    """The distribution of a model's names, given a wish.

    Raises:
        VocabularyError: a text to be contained has a character that the model does not know.
        RequestError: no name fulfils the wish.
        NotExactError: it cannot be computed; the message says why.
    """
    info = model.info
    steps = wish.steps(info.longest_name)
    automaton = wish.automaton(info.vocabulary)

    def conditional(log_probs: LogProbs) -> Conditional:
        return Conditional(log_probs, info.block_size, automaton, wish.min_length, max_length=steps)

    result: Given
    if info.labels and wish.label is None:
        shares = {
            name: share for name, share in zip(info.labels, info.label_shares, strict=True) if share > 0
        }
        log_probs = [_log_probs(model, wish, name) for name in shares]
        result = Mixture(shares, log_probs, conditional)
    else:
        result = conditional(_log_probs(model, wish, wish.label))
    if result.log_probability == -math.inf:
        lengths = f"{wish.min_length:,} to {steps:,} characters"
        raise RequestError(f"no name of {lengths} fulfils the wish: its probability is 0")
    return result


def _log_probs(model: NextCharacterModel, wish: Wish, label: str | None) -> LogProbs:
    """log p of the plain and of the bent model for one label, as a function of the characters alone."""
    next_logits = model.for_label(label)

    def log_probs(contexts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        logits = next_logits(contexts)  # (m, T) -> (m, V)
        plain = log_softmax(logits)
        if np.isnan(plain).any():
            raise ModelFileError("the model file is damaged (its logits are NaN or infinite)")
        return (log_softmax(bend(logits.astype(np.float64), wish)) if wish.bends else plain), plain

    return log_probs
