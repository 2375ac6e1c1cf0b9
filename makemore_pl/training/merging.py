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


def merge(contexts: Tensor, targets: Tensor, most: int = MOST_MERGED) -> Merged:
    """Merge examples of equal contexts.

    Args:
        contexts: (n, T), any integer dtype.
        targets: (n,).
        most: examples that one row stands for, on average at most.
    """
    vocab_size = int(max(contexts.max(), targets.max())) + 1
    # Contexts are numbered column by column: `unique` over whole rows takes a hundred times as long.
    number = torch.zeros_like(targets, dtype=torch.long)  # (n,)
    for column in contexts.T:
        _, number = torch.unique(number * vocab_size + column, return_inverse=True)
    different = contexts.new_empty((int(number.max()) + 1, contexts.shape[1]))
    different[number] = contexts  # (n, T) -> (U, T): those of one number are equal
    pairs, counts = torch.unique(number * vocab_size + targets, return_counts=True)  # (P,), by context
    context_of = pairs // vocab_size  # (P,)
    sizes = context_of.bincount()  # (U,) pairs
    totals = torch.zeros_like(sizes).index_add_(0, context_of, counts)  # (U,) examples
    parts = -(-totals // most)  # (U,) rows among which a context is divided
    weights = counts / parts[context_of]
    merged = Merged(different, sizes.cumsum(0), pairs % vocab_size, weights.float())
    return merged.take(torch.arange(len(sizes), device=sizes.device).repeat_interleave(parts))


def unmerged(contexts: Tensor, targets: Tensor) -> Merged:
    """Each example as a row of its own."""
    ends = torch.arange(1, len(targets) + 1, device=targets.device)
    return Merged(contexts, ends, targets.long(), torch.ones(len(targets), device=targets.device))
