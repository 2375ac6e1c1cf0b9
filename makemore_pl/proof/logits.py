"""The proof that an exported file computes what the trained model computes.

Everything is a function from contexts int64 (n, T) to logits (n, V); the trained model in eval mode and
float64 is what all others are measured by. All tolerances of the project stand here.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import VerificationError
from makemore_pl.graph.forms import FoldedWeights
from makemore_pl.proof.contexts import ContextSet
from makemore_pl.vocabulary import BOUNDARY

Logits = Callable[[NDArray[np.int64]], NDArray[Any]]
"""contexts int64 (n, T) -> logits (n, V)."""


FLOAT64 = 1e-10
"""Largest deviation allowed to a logit computed in float64. Folding only reorders operations: some units of
2^-53 = 1e-16, times the sizes of the terms. Largest seen on trained models: 2e-14."""


def float32_tolerance(weights: FoldedWeights) -> float:
    """Largest deviation allowed to a logit computed in float32.

    1e-5, the field's usual bound, or more where sums have large terms that cancel: adding terms of total
    size K in float32 is off by about K * 2^-24, whatever the sum itself is. A layer hands its errors on,
    through Tanh, which does not enlarge them, to the next layer's sums, where they add up as independent
    errors do (Higham & Mary 2019, "A new approach to probabilistic rounding error analysis"). Largest seen,
    in units of what that comes to: 2.3 on trained models of 1 to 3 layers and block sizes 3 to 64; 8 are
    allowed. A wrong weight hides in no tolerance here: the certificate compares the weights themselves.
    """
    unit = 2.0**-24
    [first, first_bias], *others = [*weights.hidden, weights.output]
    # Of each position the largest terms that any id has there: (V, C) @ (C, H) -> (V, H) -> (H,)
    by_position = np.split(np.abs(first), weights.block_size, axis=1)
    largest_terms = sum((np.abs(weights.embedding) @ part.T).max(axis=0) for part in by_position)
    error = unit * (largest_terms + np.abs(first_bias))  # (H,)
    for weight, bias in others:  # inputs are outputs of Tanh, at most 1
        term_sizes = np.abs(weight).sum(axis=1) + np.abs(bias)
        error = np.hypot(unit * term_sizes, np.sqrt(weight**2 @ error**2))
    return max(1e-5, 8 * float(error.max()))


BATCH_SIZES = (1, 2, 3, 64)
"""Batch sizes tried besides the large ones: a dynamic dimension baked in would show at 1 or 2."""
CONTEXTS_PER_BATCH_SIZE = 2_048


@dataclass(frozen=True)
class Candidate:
    """A form of the model that should equal the trained one."""

    name: str
    logits: Logits
    tolerance: float


@dataclass(frozen=True)
class Check:
    """What was found for one candidate.

    Attributes:
        name: the candidate's.
        contexts: how many contexts were compared.
        largest: largest absolute deviation of a logit.
        mean: mean absolute deviation of all logits.
        context: ids of the context with the largest deviation.
        next_id: id of the logit with the largest deviation.
        tolerance: largest deviation allowed.
        passed: whether every logit was within it.
    """

    name: str
    contexts: int
    largest: float
    mean: float
    context: list[int]
    next_id: int
    tolerance: float
    passed: bool


class _Tally:
    """Running figures of one candidate."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.n_contexts = 0
        self.n_logits = 0
        self.total = 0.0
        self.largest = -1.0
        self.context: list[int] = []
        self.next_id = 0
        self.passed = True

    def add(self, contexts: NDArray[np.int64], expected: NDArray[Any]) -> None:
        actual = self.candidate.logits(contexts)
        if actual.shape != expected.shape:
            raise VerificationError(
                f"{self.candidate.name}: logits of shape {actual.shape}, expected {expected.shape}"
            )
        deviation = np.abs(actual.astype(np.float64) - expected)
        # Not `any(deviation > tolerance)`: that would let NaN pass.
        self.passed = self.passed and bool((deviation <= self.candidate.tolerance).all())
        deviation = np.nan_to_num(deviation, nan=math.inf)
        self.n_contexts += len(contexts)
        self.n_logits += deviation.size
        self.total += float(deviation.sum())
        worst = np.unravel_index(int(deviation.argmax()), deviation.shape)
        if deviation[worst] > self.largest:
            self.largest = float(deviation[worst])
            self.context = contexts[worst[0]].tolist()
            self.next_id = int(worst[1])

    def result(self) -> Check:
        return Check(
            name=self.candidate.name,
            contexts=self.n_contexts,
            largest=self.largest,
            mean=self.total / self.n_logits,
            context=self.context,
            next_id=self.next_id,
            tolerance=self.candidate.tolerance,
            passed=self.passed,
        )


def compare(
    reference: Logits,
    candidates: Sequence[Candidate],
    contexts: ContextSet,
    track: Callable[[Iterator[NDArray[np.int64]]], Iterator[NDArray[np.int64]]] = iter,
) -> list[Check]:
    """Compare each candidate with `reference` on all `contexts`, in one pass.

    Args:
        reference: what is right.
        candidates: what is to be shown equal.
        contexts: where.
        track: wraps the iterator over chunks, for a progress bar.

    Raises:
        VerificationError: a candidate deviates by more than its tolerance, or has another shape.
    """
    tallies = [_Tally(candidate) for candidate in candidates]
    for chunk in track(contexts.chunks()):
        expected = reference(chunk).astype(np.float64)
        for tally in tallies:
            tally.add(chunk, expected)
    checks = [tally.result() for tally in tallies]
    raise_if_failed(checks)
    return checks


def compare_batch_sizes(reference: Logits, candidate: Candidate, contexts: ContextSet) -> list[Check]:
    """Compare a candidate called with small batches of several sizes, on the first contexts.

    Raises:
        VerificationError: see `compare`.
    """
    sample = next(contexts.chunks())[:CONTEXTS_PER_BATCH_SIZE]
    expected = reference(sample).astype(np.float64)
    checks = []
    for batch_size in BATCH_SIZES:

        def in_batches(sample: NDArray[np.int64], batch_size: int = batch_size) -> NDArray[Any]:
            starts = range(0, len(sample), batch_size)
            return np.concatenate([candidate.logits(sample[i : i + batch_size]) for i in starts])

        tally = _Tally(
            Candidate(f"{candidate.name}, batches of {batch_size}", in_batches, candidate.tolerance)
        )
        tally.add(sample, expected)
        checks.append(tally.result())
    raise_if_failed(checks)
    return checks


def raise_if_failed(checks: Sequence[Check]) -> None:
    """Raise for the first failed check.

    Raises:
        VerificationError: with the largest deviation and where it occurs.
    """
    for check in checks:
        if not check.passed:
            raise VerificationError(
                f"{check.name} is not the trained model: a logit differs by {check.largest:.3g} "
                f"(allowed: {check.tolerance:.3g}), "
                f"id {check.next_id} after context {check.context}"
            )


def describe_context(context: Sequence[int], characters: str) -> str:
    """A context as text, boundaries as '·'."""
    return "".join("·" if token == BOUNDARY else characters[token - 1] for token in context)
