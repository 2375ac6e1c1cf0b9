"""Findings: what is unhealthy in a network's figures, in words, with the limits and their sources.

Sources: "the lectures" are Andrej Karpathy's makemore lectures, part 3: activations, gradients, BatchNorm.
What they call healthy is a guide for the first thousand steps of plain SGD; a limit here is what no good run
has passed.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from makemore_pl.inspect.measures import DEAD, SATURATED
from makemore_pl.inspect.step_table import StepRow

MAX_SATURATED_AT_START = 0.35
"""Share of a Tanh layer's outputs with |t| > 0.97 that is too large before training. The lectures find 0.20
in the first layer at the recommended gain of 5/3, which they accept, and 0.48 at a gain of 3, which they do
not. That units which begin saturated learn slowly is in Glorot & Bengio 2010, §3."""
MAX_SATURATED = 0.75
"""The same in training and at its end, where it is a matter of degree: a network that has learned to be sure
saturates. This project's own recipes end between 0.25 and 0.53, and reach their lowest dev NLL there."""
MIN_SPREAD_AT_START = 0.1
"""Standard deviation of the last Tanh layer's outputs, over the first's, that is too small before training:
activations fade from layer to layer, and gradients on the way back (Glorot & Bengio 2010, §4.2; He et al.
2015, §2.2). After five layers without BatchNorm the lectures have 0.5 at a gain of 1, and 0.05 at a gain of
0.5."""
UPDATE_GUIDE = -3.0
"""log10 of the update-to-data ratio to be near with plain SGD (the lectures; before them the notes of
Stanford's course CS231n, "Neural Networks Part 3", on the ratio of weights to updates)."""
LOWEST_UPDATE, HIGHEST_UPDATE = -4.5, -1.0
"""log10 of the ratios beyond which the rate is wrong for any optimiser. The lectures find 10^-5 far too slow.
Adam's step is about the learning rate, however small the gradient (Kingma & Ba 2015, §2.1): at the default
0.04, beside weights of 0.3 to 1, that is 10^-1.6 to 10^-1, and the recipes do best there, as the rate falls
to zero afterwards."""
SETTLING_STEPS = 100
"""First steps, in which ratios are not judged: weights that start small are enlarged first of all."""


def findings_at_start(row: StepRow) -> list[str]:
    """List what is wrong with the initialisation: units that start saturated, activations that fade."""
    saturated = row.by_part("saturated")
    found = [
        f"{layer}: {share:.0%} of its outputs start saturated (|t| > {SATURATED}), where next to no gradient "
        "passes: start with smaller weights (model.init kaiming), or use BatchNorm"
        for layer, share in saturated.items()
        if share > MAX_SATURATED_AT_START
    ]
    if saturated:
        first_layer, *_, last_layer = [*saturated, *saturated]
        first, last = (row.figures[f"{layer}/std"] for layer in (first_layer, last_layer))
        if last < MIN_SPREAD_AT_START * first:
            found.append(
                f"{last_layer}: its outputs start with a standard deviation of {last:.2g}, {first_layer}'s "
                f"with {first:.2g}: activations fade on the way; a larger model.hidden_gain, or BatchNorm, "
                "keeps them up"
            )
    return found


def findings_over_run(rows: Sequence[StepRow]) -> list[str]:
    """List what went wrong: saturation, dead units, weights that never move, updates too small or large."""
    return list(_findings_over_run(rows)) if rows else []


def within_limits(rows: Sequence[StepRow]) -> str:
    """Say how far from its limits a run without findings has stayed, in the figures that they are for."""
    if not rows:
        return ""
    saturated = max(_late(rows, "saturated").values(), default=0.0)
    said = f"at most {saturated:.0%} of a layer saturated (limit {MAX_SATURATED:.0%}), no dead unit"
    if updates := _settled_updates(rows):
        low, high = min(updates.values()), max(updates.values())
        said += (
            f", updates of 10^{low:.1f} to 10^{high:.1f} of the weights (limits 10^{LOWEST_UPDATE:g} and "
            f"10^{HIGHEST_UPDATE:g}; near 10^{UPDATE_GUIDE:g} is the guide for plain SGD, AdamW's are larger)"
        )
    return said


def _findings_over_run(rows: Sequence[StepRow]) -> Iterator[str]:
    for layer, share in _late(rows, "saturated").items():
        if share > MAX_SATURATED:
            yield (
                f"{layer}: {share:.0%} of its outputs are saturated (|t| > {SATURATED}), so that it hardly "
                "learns: start with smaller weights, lower the learning rate, or use BatchNorm"
            )
    for layer, share in _late(rows, "dead").items():
        if share > 0:
            yield (
                f"{layer}: {share:.1%} of its units are dead (|t| > {DEAD} on every example of a batch), so "
                "that nothing can move them: a lower learning rate or smaller first weights keep units alive"
            )
    ratios = _settled_updates(rows)
    for weight in rows[-1].by_part("gradient_to_data"):
        gradients = (f"{weight}/gradient_mean", f"{weight}/gradient_std")
        if not any(row.figures.get(name) for row in rows for name in gradients):
            yield f"{weight}: gets no gradient, so that it stays what it is: start from another init"
            continue
        ratio = ratios.get(weight, math.nan)
        if ratio < LOWEST_UPDATE or ratio > HIGHEST_UPDATE:
            side, limit, rate = (
                ("below", LOWEST_UPDATE, "low")
                if ratio < LOWEST_UPDATE
                else ("above", HIGHEST_UPDATE, "high")
            )
            yield (
                f"{weight}: a step changes it by 10^{ratio:.1f} of its size (median), {side} the limit of "
                f"10^{limit:g}: the learning rate is too {rate}"
            )


def _late(rows: Sequence[StepRow], figure: str) -> dict[str, float]:
    """Median of a figure over the second half of the rows, by layer."""
    return _medians(rows[len(rows) // 2 :], figure)


def _settled_updates(rows: Sequence[StepRow]) -> dict[str, float]:
    """Median of log10 of the update-to-data ratio after the first steps, by weight matrix."""
    return _medians([row for row in rows if row.step >= SETTLING_STEPS], "log10_update_to_data")


def _medians(rows: Sequence[StepRow], figure: str) -> dict[str, float]:
    """Median of a figure where it was measured, by part."""
    values = defaultdict[str, list[float]](list)
    for row in rows:
        for part, value in row.by_part(figure).items():
            values[part].append(value)
    return {part: float(np.median(some)) for part, some in values.items()}
