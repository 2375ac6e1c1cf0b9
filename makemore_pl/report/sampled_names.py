"""Names sampled from the model, each with its likelihood, known or new."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from makemore_pl.report.sources import Material
from makemore_pl.runtime.decoding import Decoding, sample_stepwise
from makemore_pl.runtime.sampler import Sampler

DRAWN = 1_000
"""Names drawn, of which the first are shown and the share of new ones is taken."""
SHOWN = 40


@dataclass(frozen=True)
class MadeUp:
    """One name.

    Attributes:
        name: the name.
        log_prob: its log-likelihood in nats, its end included.
        is_new: True if it is not in the list; None where the list is not available.
    """

    name: str
    log_prob: float
    is_new: bool | None

    @property
    def perplexity(self) -> float:
        """Per character, its end included: among how many equally likely ones each was drawn."""
        return float(np.exp(-self.log_prob / (len(self.name) + 1)))


@dataclass(frozen=True)
class Names:
    """A sample of `DRAWN` names.

    Attributes:
        shown: the first different ones.
        share_new: share of all that is not in the list; None where it is not available.
        source: what drew them, in words.
    """

    shown: list[MadeUp]
    share_new: float | None
    source: str


def make_up(material: Material, seed: int) -> Names:
    """Draw names from the exported sampler, else step by step from the checkpoint: the same names."""
    if material.export is not None:
        source = "by the exported sampler"
        batches = list(Sampler(material.export, prepare=False).stream(DRAWN, seed=seed))
        names = [name for batch in batches for name in batch.names]
        log_probs = [log_prob for batch in batches for log_prob in batch.log_probs]
    else:
        source = "step by step from the checkpoint"
        names, log_probs = _draw_stepwise(material, seed)
    known = None if material.data is None else frozenset(material.data.list.names())
    first = dict(zip(reversed(names), reversed(log_probs), strict=True))  # each name once
    shown = [
        MadeUp(name, first[name], None if known is None else name not in known)
        for name in list(dict.fromkeys(names))[:SHOWN]
    ]
    share_new = None if known is None else sum(name not in known for name in names) / len(names)
    return Names(shown, share_new, source)


@torch.inference_mode()
def _draw_stepwise(material: Material, seed: int) -> tuple[list[str], list[float]]:
    steps = 2 * material.checkpoint.data["longest_name"]  # as long as the sampler lets them get
    uniforms = np.random.default_rng(seed).random((DRAWN, steps), dtype=np.float32)
    model, prefix = material.model, np.array([], dtype=np.int64)

    def logits(contexts: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        return np.asarray(model(torch.from_numpy(np.ascontiguousarray(contexts))))  # (n, T) -> (n, V)

    tokens, log_probs = sample_stepwise(logits, model.block_size, uniforms, prefix, Decoding())
    return [material.vocabulary.decode(row) for row in tokens], log_probs.tolist()
