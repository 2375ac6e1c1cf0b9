"""Comparing logits, with all tolerances of the project.

Everything is a function from contexts int64 (n, P) to logits (n, V), P being T or, with a label, T + 1; the
trained model in eval mode and float64 is the reference.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from makemore_pl.errors import VerificationError
from makemore_pl.model.folded_weights import FoldedWeights, multiply, row_sums
from makemore_pl.proof.contexts import ContextSet

Logits = Callable[[NDArray[np.int64]], NDArray[Any]]
"""contexts int64 (n, P) -> logits (n, V)."""


FLOAT64 = 1e-10
"""Largest deviation allowed to a logit computed in float64. Folding only reorders operations: some units of
2^-53 = 1e-16, times the sizes of the terms. Largest seen on trained models: 2e-14."""


def float32_tolerance(weights: FoldedWeights) -> float:
    """Largest deviation allowed to a logit computed in float32.

    1e-5, the field's usual bound, or more where sums have large terms that cancel: adding terms of total
    size K in float32 is off by about K * 2^-24, whatever the sum itself is. A layer hands its errors on,
    through Tanh, which does not enlarge them, to the next layer's sums, where they add up as independent
    errors do (Higham & Mary 2019, "A new approach to probabilistic rounding error analysis"). Largest seen,
    in units of this estimate: 2.3 on trained models of 1 to 3 layers and block sizes 3 to 64; 8 are allowed.
    No wrong weight hides in this tolerance: the proof compares the stored weights themselves, too.
    """
    unit = 2.0**-24
    [first, first_bias], *others = weights.linears
    # Of each position the largest terms that any id has there: (V, C) @ (C, H) -> (V, H) -> (H,)
    space = weights.space
    by_position = np.split(np.abs(first), len(space.sizes), axis=1)
    ids = [slice(start, start + size) for start, size in zip(space.first_ids, space.sizes, strict=True)]
    largest_terms = sum(
        (np.abs(weights.embedding[own]) @ part.T).max(axis=0)
        for own, part in zip(ids, by_position, strict=True)
    )
    error = unit * (largest_terms + np.abs(first_bias))  # (H,)
    for weight, bias in others:  # inputs are outputs of Tanh, at most 1
        term_sizes = row_sums(np.abs(weight)) + np.abs(bias)
        error = np.hypot(unit * term_sizes, np.sqrt(multiply(weight**2, error**2)))
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


@dataclass
class Check:
    """Figures of one candidate over the contexts compared so far.

    Attributes:
        name: the candidate's.
        tolerance: largest deviation allowed.
        contexts: number of contexts compared.
        largest: largest absolute deviation of a logit.
        mean: mean absolute deviation of all logits.
        context: ids of the context with the largest deviation.
        next_id: id of the logit with the largest deviation.
        passed: true as long as every logit was within the tolerance.
    """

    name: str
    tolerance: float
    contexts: int = 0
    largest: float = -1.0
    mean: float = 0.0
    context: list[int] = field(default_factory=list)
    next_id: int = 0
    passed: bool = True

    def add(self, contexts: NDArray[np.int64], actual: NDArray[Any], expected: NDArray[Any]) -> None:
        """Compare logits (n, V) after `contexts` (n, P) with the reference's.

        Raises:
            VerificationError: they have another shape.
        """
        if actual.shape != expected.shape:
            raise VerificationError(f"{self.name}: logits of shape {actual.shape}, expected {expected.shape}")
        deviation = np.abs(actual.astype(np.float64) - expected)
        # Not `any(deviation > tolerance)`: that would let NaN pass.
        self.passed = self.passed and bool((deviation <= self.tolerance).all())
        deviation = np.nan_to_num(deviation, nan=math.inf)
        self.contexts += len(contexts)
        self.mean += (float(deviation.mean()) - self.mean) * len(contexts) / self.contexts
        row, next_id = divmod(int(deviation.argmax()), deviation.shape[1])
        if deviation[row, next_id] > self.largest:
            self.largest = float(deviation[row, next_id])
            self.context = contexts[row].tolist()
            self.next_id = next_id


def compare(
    reference: Logits, candidates: Sequence[Candidate], chunks: Iterable[NDArray[np.int64]]
) -> list[Check]:
    """Compare each candidate with `reference` in one pass over contexts.

    Args:
        reference: logits of the trained model.
        candidates: forms of the model to be shown equal.
        chunks: contexts int64 (n, P), chunk by chunk.

    Raises:
        VerificationError: a candidate deviates by more than its tolerance, or has another shape.
    """
    checks = [Check(candidate.name, candidate.tolerance) for candidate in candidates]
    for chunk in chunks:
        expected = reference(chunk).astype(np.float64)
        for check, candidate in zip(checks, candidates, strict=True):
            check.add(chunk, candidate.logits(chunk), expected)
    for check in checks:
        if not check.passed:
            raise VerificationError(
                f"{check.name} is not the trained model: a logit differs by {check.largest:.3g} "
                f"(allowed: {check.tolerance:.3g}), id {check.next_id} after context {check.context}"
            )
    return checks


def compare_batch_sizes(reference: Logits, candidate: Candidate, contexts: ContextSet) -> list[Check]:
    """Compare a candidate called with small batches of several sizes, on the first contexts.

    Raises:
        VerificationError: see `compare`.
    """

    def in_batches_of(size: int) -> Candidate:
        def logits(sample: NDArray[np.int64]) -> NDArray[Any]:
            return np.concatenate(
                [candidate.logits(sample[i : i + size]) for i in range(0, len(sample), size)]
            )

        return Candidate(f"{candidate.name}, batches of {size}", logits, candidate.tolerance)

    sample = next(contexts.chunks())[:CONTEXTS_PER_BATCH_SIZE]
    return compare(reference, [in_batches_of(size) for size in BATCH_SIZES], [sample])


def module_logits(module: torch.nn.Module) -> Logits:
    """A module in eval mode as a function of contexts, in the dtype of its weights."""
    assert not module.training

    def logits(contexts: NDArray[np.int64]) -> NDArray[Any]:
        with torch.inference_mode():
            output: NDArray[Any] = module(torch.from_numpy(contexts)).numpy()
        return output

    return logits


def describe_context(context: Sequence[int], characters: str, labels: Sequence[str] = ()) -> str:
    """A context as text: `F: ·an`, say, with boundaries as '·'."""
    texts = ["·", *characters, *(f"{label}: " for label in labels)]  # by id
    return "".join(texts[token] for token in context)
