"""Equal contexts are learnt from at once: a context stands once in an epoch, with all that follows it.

The NLL of a list is a sum over examples, and those with the same context have the same logits. So the network
need only compute each different context, weighted by how often each id follows it: for names and a context
of 3, a twentieth of the work. The loss and its gradient are the same, up to rounding.

Notation: n examples, U different contexts, P different pairs of a context and its target, T block size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_MERGED = 32
"""A context that occurs more often stands several times in an epoch, each time with its share of the weight:
as a single row it would decide its batch alone, and only once in an epoch."""
UNIT = 1 << 30
"""Weights are added up as whole numbers of this part of 1: exactly, in any order, on any device."""


@dataclass(frozen=True)
class Merged:
    """Different contexts, and what follows each of them.

    Attributes:
        contexts: (U, T), in the dtype of the stream.
        ends: int64 (U,): the pairs of context u are those number ends[u - 1] … ends[u] - 1.
        targets: int64 (P,) ids.
        weights: float32 (P,): how many examples the pair stands for, together n.
    """

    contexts: Tensor
    ends: Tensor
    targets: Tensor
    weights: Tensor

    def __len__(self) -> int:
        """U."""
        return len(self.contexts)

    def take(self, order: Tensor) -> "Merged":
        """The contexts of these numbers, int64 (u,), in this order."""
        sizes = self.ends.diff(prepend=self.ends.new_zeros(1))[order]  # (u,) pairs of each
        ends = sizes.cumsum(0)
        first = self.ends[order] - ends  # (u,) from a pair's new place to its old one
        places = first.repeat_interleave(sizes) + torch.arange(int(sizes.sum()), device=order.device)
        return Merged(self.contexts[order], ends, self.targets[places], self.weights[places])


def merge(
    contexts: Tensor, targets: Tensor, most: int = MOST_MERGED, weights: Tensor | None = None
) -> Merged:
    """Merge examples of equal contexts.

    Args:
        contexts: (n, T), any integer dtype.
        targets: (n,).
        most: examples that one row stands for, on average at most.
        weights: float (n,), for how many examples each one stands, on average 1; None: for one.
    """
    vocab_size = int(max(contexts.max(), targets.max())) + 1
    numbers, order = _numbered(contexts, vocab_size).mul(vocab_size).add(targets).sort()  # (n,), by context
    # (P,) pairs, (n,) the place of each example's among them, (P,) examples of each
    pairs, pair_of, counts = torch.unique_consecutive(numbers, return_inverse=True, return_counts=True)
    examples = order[counts.cumsum(0) - counts]  # (P,) the first of each pair
    unit = 1
    if weights is not None:
        units = (weights[order].double() * UNIT).round().long().clamp(min=1)
        counts, unit = torch.zeros_like(counts).index_add_(0, pair_of, units), UNIT
    # (P,) the place of each pair's context, 0 … U-1, and (U,) pairs of each
    _, context_of, sizes = torch.unique_consecutive(
        pairs // vocab_size, return_inverse=True, return_counts=True
    )
    ends = sizes.cumsum(0)
    totals = torch.zeros_like(sizes).index_add_(0, context_of, counts)  # (U,) examples
    parts = -(-totals // (most * unit))  # (U,) rows among which a context is divided
    merged = Merged(
        contexts[examples[ends - sizes]],
        ends,
        targets[examples].long(),
        (counts / (parts[context_of] * unit)).float(),
    )
    return merged.take(torch.arange(len(sizes), device=sizes.device).repeat_interleave(parts))


def _numbered(contexts: Tensor, vocab_size: int) -> Tensor:
    """A number for each context, int64 (n,), the same for equal ones, that leaves room for a target's id."""
    number = torch.zeros(len(contexts), dtype=torch.long, device=contexts.device)
    most = 1
    for column in contexts.T:
        if most * vocab_size**2 > 1 << 63:  # only the numbers that occur, from 0
            different, number = torch.unique(number, return_inverse=True)
            most = len(different)
        number.mul_(vocab_size).add_(column)
        most *= vocab_size
    return number


def unmerged(contexts: Tensor, targets: Tensor, weights: Tensor | None = None) -> Merged:
    """Each example as a row of its own."""
    ends = torch.arange(1, len(targets) + 1, device=targets.device)
    if weights is None:
        weights = torch.ones(len(targets), device=targets.device)
    return Merged(contexts, ends, targets.long(), weights.float())
