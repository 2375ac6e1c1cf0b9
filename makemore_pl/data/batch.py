"""`Batch`: what one step learns from.

Notation: B contexts, P pairs of a context and a target, T block size, V vocabulary size.
"""

import torch
from torch import Tensor


class Batch:
    """Contexts, and pairs of a context and an id that follows it.

    No dataclass: Lightning would take it apart, and round the weights to the precision of the network.

    Args:
        contexts: int64 (B, T).
        rows: int64 (P,), the context that each pair belongs to.
        targets: int64 (P,), the id that follows.
        weights: float32 (P,), examples that the pair stands for.
        mean_weight: examples in a batch of this pass, on average. A loss is divided by it, so that all
            batches and ranks count alike.
    """

    def __init__(
        self, contexts: Tensor, rows: Tensor, targets: Tensor, weights: Tensor, mean_weight: float
    ) -> None:
        self.contexts = contexts
        self.rows = rows
        self.targets = targets
        self.weights = weights
        self.mean_weight = mean_weight

    def __len__(self) -> int:
        """B."""
        return len(self.contexts)

    @classmethod
    def of_examples(cls, contexts: Tensor, targets: Tensor) -> "Batch":
        """From contexts int64 (B, T) and targets int64 (B,), each example as a row of its own."""
        n = len(targets)
        rows = torch.arange(n, device=targets.device)
        return cls(contexts, rows, targets, torch.ones(n, device=targets.device), n)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """This batch itself, which the loader has put on the device already. Lightning calls it."""
        assert self.contexts.device == device
        return self

    def nll(self, log_probs: Tensor) -> Tensor:
        """NLL of the batch's examples, summed, in nats, by log-probabilities (B, V) for its contexts."""
        n_ids = log_probs.shape[1]
        of_pairs = log_probs.flatten().gather(0, self.rows * n_ids + self.targets)  # (B, V) -> (P,)
        return -(of_pairs * self.weights).sum()
