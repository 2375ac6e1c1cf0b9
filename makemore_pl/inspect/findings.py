"""What is unhealthy in a network's figures, in words, and from where on.

Sources: "the lectures" are Andrej Karpathy's makemore lectures, part 3: activations, gradients, BatchNorm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makemore_pl.inspect.measures import DEAD, SATURATED
from makemore_pl.inspect.records import Record

MAX_SATURATED_AT_START = 0.35
"""Share of a Tanh layer's outputs with |t| > 0.97 that is too large before training. The lectures find 0.20
in the first layer at the recommended gain of 5/3, which they accept, and 0.48 at a gain of 3, which they do
not. That units which begin saturated learn slowly is in Glorot & Bengio 2010, §3. Only at the start: a
network that has learned to be sure saturates more; this project's own recipes end between 0.25 and 0.5."""
MAX_SATURATED = 0.75
"""The same in training and at its end, where it is a matter of degree: those recipes stay well below."""
MIN_SPREAD_AT_START = 0.1
"""Standard deviation of the last Tanh layer's outputs, over the first's, that is too small before training:
activations fade from layer to layer, and gradients on the way back (Glorot & Bengio 2010, §4.2; He et al.
2015, §2.2). After five layers without BatchNorm the lectures have 0.5 at a gain of 1, and 0.05 at a gain of
0.5."""
UPDATE_GUIDE = -3.0
"""log10 of the update-to-data ratio to be near (the lectures; before them the notes of Stanford's course
CS231n, "Neural Networks Part 3", on the ratio of weights to updates)."""
LOWEST_UPDATE, HIGHEST_UPDATE = -4.5, -1.0
"""log10 of the ratios beyond which it is far from the guide. The lectures find 10^-5 far too slow and call
10^-1.5 a little fast; AdamW at this project's learning rates does well between 10^-2 and 10^-1.5."""
SETTLING_STEPS = 100
"""First steps, in which ratios are not judged: weights that start small are enlarged first of all."""


@dataclass(frozen=True)
class Finding:
    """One thing that is unhealthy.

    Attributes:
        part: the layer or weight matrix.
        text: what is wrong with it, and what helps.
    """

    part: str
    text: str

    def __str__(self) -> str:
        return f"{self.part}: {self.text}"


def findings_at_start(record: Record) -> list[Finding]:
    """What is wrong with the initialisation: units that begin saturated, activations that fade."""
    found = []
    for layer, share in _by_part(record, "saturated").items():
        if share > MAX_SATURATED_AT_START:
            found.append(
                Finding(
                    layer,
                    f"{share:.0%} of its outputs start saturated (|t| > {SATURATED}), where next to no "
                    "gradient passes: start with smaller weights (model.init kaiming), or use BatchNorm",
                )
            )
    tanhs = list(_by_part(record, "saturated"))
    first, last = (record.scalars[f"{tanhs[i]}/std"] for i in (0, -1)) if tanhs else (1.0, 1.0)
    if last < MIN_SPREAD_AT_START * first:
        found.append(
            Finding(
                tanhs[-1],
                f"its outputs start with a standard deviation of {last:.2g}, {tanhs[0]}'s with {first:.2g}: "
                "activations fade on the way; a larger model.hidden_gain, or BatchNorm, keeps them up",
            )
        )
    return found


def findings_over_run(records: Sequence[Record]) -> list[Finding]:
    """What went wrong: saturation, dead units, weights that never move, updates far too small or large."""
    if not records:
        return []
    found = []
    late = records[len(records) // 2 :]
    for layer in _by_part(records[-1], "saturated"):
        found += saturated_in_training(layer, _median(late, f"{layer}/saturated"))
    for layer in _by_part(records[-1], "dead"):
        found += dead_units(layer, _median(late, f"{layer}/dead"))
    for weight in _by_part(records[-1], "gradient_std"):
        if not weight.endswith(".weight"):
            continue
        if all(_has_no_gradient(record, weight) for record in records):
            found.append(
                Finding(weight, "never gets a gradient, so that it stays what it is: start from another init")
            )
            continue
        ratios = [
            record.scalars[name]
            for record in records
            if record.step >= SETTLING_STEPS and (name := f"{weight}/log10_update_to_data") in record.scalars
        ]
        if ratios:
            found += _far_from_guide(weight, float(np.median(ratios)))
    return found


def saturated_in_training(layer: str, share: float) -> list[Finding]:
    """A Tanh layer of which this share of outputs is saturated, though it has trained."""
    if share <= MAX_SATURATED:
        return []
    return [
        Finding(
            layer,
            f"{share:.0%} of its outputs are saturated (|t| > {SATURATED}), so that it hardly learns: start "
            "with smaller weights, lower the learning rate, or use BatchNorm",
        )
    ]


def dead_units(layer: str, share: float) -> list[Finding]:
    """A Tanh layer of which this share of units is dead."""
    if share == 0:
        return []
    return [
        Finding(
            layer,
            f"{share:.1%} of its units are dead (|t| > {DEAD} on every example of a batch), so that nothing "
            "can move them: a lower learning rate or smaller first weights keep units alive",
        )
    ]


def _median(records: Sequence[Record], name: str) -> float:
    return float(np.median([record.scalars[name] for record in records if name in record.scalars]))


def _far_from_guide(weight: str, ratio: float) -> list[Finding]:
    if LOWEST_UPDATE <= ratio <= HIGHEST_UPDATE:
        return []
    slow = ratio < UPDATE_GUIDE
    return [
        Finding(
            weight,
            f"a step changes it by 10^{ratio:.1f} of its size (median), far {'below' if slow else 'above'} "
            f"the usual 10^{UPDATE_GUIDE:.0f}: the learning rate is too {'low' if slow else 'high'}",
        )
    ]


def _has_no_gradient(record: Record, weight: str) -> bool:
    return not any(record.scalars.get(f"{weight}/gradient_{figure}") for figure in ("mean", "std"))


def _by_part(record: Record, figure: str) -> dict[str, float]:
    """One figure of all the layers or weights that have it."""
    ending = f"/{figure}"
    return {
        name.removesuffix(ending): value for name, value in record.scalars.items() if name.endswith(ending)
    }
