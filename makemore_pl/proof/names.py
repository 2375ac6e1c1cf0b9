"""The proof for `sampler.onnx`: the same uniforms give the same names as the step-by-step sampler.

The reference draws from the trained model in float64; the file computes logits in float32. A draw whose
uniform falls within that rounding of the border between two characters may then go either way. Such a draw is
judged on its own: some logits that are off by no more than the tolerance must make the reference draw the
file's character. Everything else must be equal.

Few draws lie so close to a border: many of them would be a fault. But where characters tie for a place among
the k likeliest, or in the nucleus of top-p, all draws after that context may differ, as they do in a network
that has hardly been trained; these are not counted against the limit.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import VerificationError
from makemore_pl.proof.borderline import could_draw, has_tie
from makemore_pl.proof.logits import Logits
from makemore_pl.proof.trials import MAX_LOGITS, Trial
from makemore_pl.runtime.decoding import Decoding, sample_stepwise
from makemore_pl.runtime.table import CORES

Ids = NDArray[np.int64]
Generate = Callable[..., tuple[Ids, NDArray[np.int32], NDArray[np.float32]]]
"""uniforms (n, steps), prefix (p,), decoding, with labels their ids (n,) -> tokens and code points
(n, length), log_prob (n,)."""

NAMES_PER_BORDERLINE = 1_000
"""One name in so many may have a borderline draw without a tie: seen are 0 to 2 in 10,000; a wrong sampler
has hundreds."""

OTHERS_EVERY = 7
"""Every seventh trial: without a common factor with the numbers of prefixes, lengths, bends and sizes."""


@dataclass(frozen=True)
class SameNames:
    """Figures of the comparison.

    Attributes:
        names: number of names compared.
        borderline: number of names among them with a draw that only rounding explains.
        log_prob: largest deviation of a log-likelihood among the equal names, nats.
    """

    names: int
    borderline: int
    log_prob: float


def compare_names(
    samplers: Sequence[Generate],
    trials: Iterable[Trial],
    logits: Logits,
    block_size: int,
    codepoints: NDArray[np.int32],
    tolerance: float,
) -> SameNames:
    """Compare samplers with the step-by-step one over the trained model.

    Args:
        samplers: one file used in several ways. The first is given all trials, the others a seventh.
        trials: what is requested.
        logits: of the trained model in float64.
        block_size: T.
        codepoints: (V,), of each id.
        tolerance: largest deviation of a logit that float32 explains.

    Returns:
        The figures of the sampler with the most borderline draws.

    Raises:
        VerificationError: a name differs by more than a borderline draw, or too many do.
    """
    trials = list(trials)
    compared = sum(trial.n for trial in trials)
    random = sum(trial.n for trial in trials if not trial.on_edges)
    borderline, untied = np.zeros((2, len(samplers)), dtype=np.int64)
    largest = 0.0

    def compared_in(number: int, trial: Trial) -> list[tuple[list[bool], float]]:
        """What `_compare` finds in a trial, for each sampler that is given it."""
        uniforms = trial.uniforms()
        labels = trial.label_ids()
        asked: tuple[Any, ...] = (trial.prefix, trial.decoding, *([] if labels is None else [labels]))
        due = sample_stepwise(logits, block_size, uniforms, *asked)
        given = samplers if number % OTHERS_EVERY == 0 else samplers[:1]
        return [
            _compare(
                generate(uniforms, *asked), due, trial, uniforms, logits, block_size, codepoints, tolerance
            )
            for generate in given
        ]

    # ONNX Runtime computes without Python's lock. At most MAX_LOGITS are held by all threads together.
    logits_at_a_time = len(codepoints) * max(trial.n for trial in trials)
    with ThreadPoolExecutor(max(1, min(CORES, MAX_LOGITS // logits_at_a_time))) as pool:
        for trial, found in zip(trials, pool.map(compared_in, range(len(trials)), trials), strict=True):
            for i, (ties, off) in enumerate(found):
                largest = max(largest, off)
                if not trial.on_edges:
                    borderline[i] += len(ties)
                    untied[i] += ties.count(False)
    if untied.max() * NAMES_PER_BORDERLINE > random:
        raise VerificationError(
            f"sampler.onnx: {untied.max()} of {random:,} names differ, too many for rounding"
        )
    return SameNames(compared, int(borderline.max()), largest)


def _compare(
    names: tuple[Ids, NDArray[np.int32], NDArray[np.float32]],
    due: tuple[Ids, NDArray[np.float32]],
    trial: Trial,
    uniforms: NDArray[np.float32],
    logits: Logits,
    block_size: int,
    codepoints: NDArray[np.int32],
    tolerance: float,
) -> tuple[list[bool], float]:
    """For each name with a borderline draw, True for a tie; and by how much the others' log_prob is off."""
    tokens, characters, log_prob = names
    n = trial.n
    if tokens.ndim != 2 or len(tokens) != n or characters.shape != tokens.shape or log_prob.shape != (n,):
        shapes = [tokens.shape, characters.shape, log_prob.shape]
        raise VerificationError(f"sampler.onnx: outputs of the shapes {shapes}, expected {n} names")
    width = max(due[0].shape[1], tokens.shape[1])
    ours, theirs = _padded(due[0], width), _padded(tokens, width)
    different = (ours != theirs).any(axis=1)
    labels = trial.label_ids()
    ties = [
        expect_borderline(
            logits,
            block_size,
            uniforms[row],
            ours[row],
            theirs[row],
            trial.prefix,
            trial.decoding,
            tolerance,
            () if labels is None else labels[row : row + 1],
        )
        for row in np.flatnonzero(different)
    ]
    if tokens.shape[1] != due[0].shape[1] and not different.any():
        raise VerificationError(
            f"sampler.onnx: names of {tokens.shape[1]} columns, {due[0].shape[1]} expected"
        )
    # Ids first: one that is no id has been refused above.
    if not np.array_equal(characters, codepoints[tokens]):
        raise VerificationError("sampler.onnx: code points that are not those of its tokens")
    expected = due[1][~different]
    off = np.abs(log_prob[~different] - expected)
    # A log-probability is off by at most twice its logit, once for each of the name's characters; and by the
    # rounding of both to float32.
    allowed = 2 * tolerance * (len(trial.prefix) + width + 1) + np.spacing(np.abs(expected))
    if not (off <= allowed).all():
        raise VerificationError(f"sampler.onnx: a log-likelihood differs by {off.max():.3g}")
    return ties, float(off.max(initial=0.0))


def expect_borderline(
    logits: Logits,
    block_size: int,
    uniforms: NDArray[np.float32],
    ours: Ids,
    theirs: Ids,
    prefix: Ids,
    decoding: Decoding,
    tolerance: float,
    label: Ids | tuple[()] = (),
) -> bool:
    """Raise unless rounding explains the first character in which two names differ.

    Returns:
        If it is a tie: see `has_tie`.
    """
    at = int(np.flatnonzero(ours != theirs)[0])
    characters = np.concatenate([np.zeros(block_size, dtype=np.int64), ours[:at]])[-block_size:]
    context = np.concatenate([np.array(label, dtype=np.int64), characters])  # (P,)
    [expected] = logits(context[None]).astype(np.float64)  # (V,)
    drawn = at - len(prefix)
    explained = (
        0 <= drawn < len(uniforms)
        and ((theirs >= 0) & (theirs < len(expected))).all()
        and could_draw(expected, float(uniforms[drawn]), int(theirs[at]), decoding, at, tolerance)
    )
    if not explained:
        raise VerificationError(
            f"sampler.onnx is not the trained model: with the same uniforms, id {theirs[at]} "
            f"where {ours[at]} is due after {ours[:at].tolist()}"
        )
    return has_tie(expected, decoding, at, tolerance)


def _padded(names: Ids, width: int) -> Ids:
    """Names (n, length) padded with boundaries, (n, width)."""
    return np.pad(names, ((0, 0), (0, width - names.shape[1])))
