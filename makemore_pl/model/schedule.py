"""How far weights are decayed, and how the learning rate rises and falls."""

import math

DECAY_EXAMPLES = 50_000
"""Training examples at which the weight decay is 1; found on nine lists, see docs/recipes.md."""
MOST_SHRINKING = 0.8
"""The share of a weight that decay may take in one step, so that a short list still learns."""


def default_weight_decay(n_examples: int, lr: float) -> float:
    """Weight decay for a list of this length, at this highest learning rate.

    Decay is a prior on the weights: the likelihood grows with the examples, the prior does not, and in the
    loss, a mean over examples, its share is 1 / n_examples.
    """
    return min(DECAY_EXAMPLES / n_examples, MOST_SHRINKING / lr)


def one_cycle(progress: float, warmup: float) -> float:
    """Share of the highest learning rate: a half cosine up from 1/25, another one down to 0 (Smith 2018).

    Args:
        progress: share of all steps that are done; from 1 on the rate is 0.
        warmup: share of the steps on which the rate rises.
    """
    if progress < warmup:
        return 1 - 0.96 * (1 + math.cos(math.pi * progress / warmup)) / 2
    return (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup)))) / 2
