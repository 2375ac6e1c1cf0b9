"""Names sampled from the model, each with its likelihood, known or new."""

from typing import NamedTuple

import numpy as np

from makemore_pl.proof.logits import module_logits
from makemore_pl.report.sources import Material
from makemore_pl.runtime.decoding import Decoding, sample_stepwise
from makemore_pl.runtime.sampler import Sampler

DRAWN = 1_000
"""Names drawn, of which the first are shown and the share of new ones is taken."""
SHOWN = 40


class MadeUp(NamedTuple):
    """A name, its log-likelihood in nats (with its end), and True if the list lacks it (None: no list)."""

    name: str
    log_prob: float
    is_new: bool | None

    @property
    def perplexity(self) -> float:
        """Per character, its end included: among how many equally likely ones each was drawn."""
        return float(np.exp(-self.log_prob / (len(self.name) + 1)))


def make_up(material: Material, seed: int) -> tuple[list[MadeUp], float | None]:
    """Draw names from the exported sampler, else step by step from the checkpoint: the same names.

    Returns:
        The first different ones of `DRAWN`, and the share of all that is new; None where there is no list.
    """
    if material.export is not None:
        batches = list(Sampler(material.export, prepare=False).stream(DRAWN, seed=seed))
        names = [name for batch in batches for name in batch.names]
        log_probs = [log_prob for batch in batches for log_prob in batch.log_probs]
    else:
        names, log_probs = _draw_stepwise(material, seed)
    known = None if material.data is None else frozenset(material.data.list.names())
    first = dict(zip(reversed(names), reversed(log_probs), strict=True))  # each name once
    shown = [
        MadeUp(name, first[name], None if known is None else name not in known)
        for name in list(dict.fromkeys(names))[:SHOWN]
    ]
    return shown, None if known is None else sum(name not in known for name in names) / len(names)


def _draw_stepwise(material: Material, seed: int) -> tuple[list[str], list[float]]:
    steps = 2 * material.checkpoint.data["longest_name"]  # as long as the sampler lets them get
    uniforms = np.random.default_rng(seed).random((DRAWN, steps), dtype=np.float32)
    model, prefix = material.model, np.array([], dtype=np.int64)
    logits = module_logits(model)
    label_ids = None
    if model.n_labels:  # drawn before the first character, as the sampler does it
        cumulative = np.cumsum(material.checkpoint.data["label_shares"])
        uniforms = np.random.default_rng(seed).random((DRAWN, steps + 1), dtype=np.float32)
        label_ids = model.vocab_size + (cumulative <= uniforms[:, :1] * cumulative[-1]).sum(axis=1)
        uniforms = uniforms[:, 1:]
    tokens, log_probs = sample_stepwise(logits, model.block_size, uniforms, prefix, Decoding(), label_ids)
    return [material.vocabulary.decode(row) for row in tokens], log_probs.tolist()
