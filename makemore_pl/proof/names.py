"""The proof for `sampler.onnx`: the same uniforms give the same names as the step-by-step sampler.

The reference draws from the trained model in float64; the file computes logits in float32. A draw whose
uniform falls within that rounding of the border between two characters may then go either way. Such a draw is
judged on its own: some logits that are off by no more than the tolerance must make the reference draw the
file's character. Everything else must be equal.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import VerificationError
from makemore_pl.proof.borderline import could_draw
from makemore_pl.proof.logits import Logits
from makemore_pl.runtime.decoding import Decoding, sample_stepwise

Generate = Callable[
    [NDArray[np.float32], NDArray[np.int64], Decoding], tuple[NDArray[np.int64], NDArray[np.float32]]
]
"""uniforms (n, steps), prefix (p,), decoding -> tokens (n, length), log_prob (n,)."""

REQUESTS = (
    (10_000, Decoding(), 0),
    (1_000, Decoding(temperature=0.5, top_k=5), 0),
    (1_000, Decoding(temperature=1.5, top_p=0.9, min_length=4), 2),
    (10, Decoding(temperature=0), 1),
)
"""Numbers of names compared, the way they are drawn, and the length of their prefix."""
MAX_LOGITS = 1 << 25
"""Logits held at a time; of a very large vocabulary, fewer names are compared."""
MAX_BORDERLINE = 10
"""Names with a borderline draw, of 10,000: seen 0 to 2, a wrong sampler would have hundreds."""


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
    generate: Generate, logits: Logits, vocab_size: int, block_size: int, steps: int, tolerance: float
) -> SameNames:
    """Compare a sampler with the step-by-step one over the trained model.

    Args:
        generate: the sampler.
        logits: of the trained model in float64.
        vocab_size: V.
        block_size: T.
        steps: draws for each name.
        tolerance: largest deviation of a logit that float32 explains.

    Raises:
        VerificationError: a name differs by more than a borderline draw, or too many do.
    """
    rng = np.random.default_rng(0)
    compared = borderline = 0
    largest = 0.0
    prefix: NDArray[np.int64] = np.array([], dtype=np.int64)
    for most, decoding, prefix_length in REQUESTS:
        n = min(most, max(100, MAX_LOGITS // vocab_size))
        uniforms = rng.random((n, steps), dtype=np.float32)
        prefix = prefix[:prefix_length]  # of a name that was drawn before
        expected, expected_log_prob = sample_stepwise(logits, block_size, uniforms, prefix, decoding)
        tokens, log_prob = generate(uniforms, prefix, decoding)
        if len(tokens) != n:
            raise VerificationError(f"sampler.onnx: {len(tokens)} names, expected {n}")
        width = max(expected.shape[1], tokens.shape[1])
        ours, theirs = _padded(expected, width), _padded(tokens, width)
        different = np.flatnonzero((ours != theirs).any(axis=1))
        for row in different:
            expect_borderline(
                logits, block_size, uniforms[row], ours[row], theirs[row], prefix, decoding, tolerance
            )
        equal = np.setdiff1d(np.arange(n), different)
        off = np.abs(log_prob[equal] - expected_log_prob[equal])
        # A log-probability is off by at most twice its logit, once for each of the name's characters.
        if not (off <= 2 * tolerance * (theirs.shape[1] + 1) + 1e-5).all():
            raise VerificationError(f"sampler.onnx: a log-likelihood differs by {off.max():.3g}")
        largest = max(largest, float(off.max(initial=0.0)))
        compared += n
        borderline += len(different)
        prefix = expected[0][expected[0] > 0] if prefix_length == 0 else prefix
    if borderline > MAX_BORDERLINE:
        raise VerificationError(
            f"sampler.onnx: {borderline} of {compared:,} names differ, too many for rounding"
        )
    return SameNames(compared, borderline, largest)


def expect_borderline(
    logits: Logits,
    block_size: int,
    uniforms: NDArray[np.float32],
    ours: NDArray[np.int64],
    theirs: NDArray[np.int64],
    prefix: NDArray[np.int64],
    decoding: Decoding,
    tolerance: float,
) -> None:
    """Raise unless rounding explains the first character in which two names differ."""
    at = int(np.flatnonzero(ours != theirs)[0])
    context = np.concatenate([np.zeros(block_size, dtype=np.int64), ours[:at]])[-block_size:]
    [expected] = logits(context[None]).astype(np.float64)  # (V,)
    explained = (
        at >= len(prefix)
        and 0 <= theirs[at] < len(expected)
        and could_draw(expected, float(uniforms[at - len(prefix)]), int(theirs[at]), decoding, at, tolerance)
    )
    if not explained:
        raise VerificationError(
            f"sampler.onnx is not the trained model: with the same uniforms, id {theirs[at]} "
            f"where {ours[at]} is due after {ours[:at].tolist()}"
        )


def _padded(names: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Names (n, length) padded with boundaries, (n, width)."""
    return np.pad(names, ((0, 0), (0, width - names.shape[1])))
