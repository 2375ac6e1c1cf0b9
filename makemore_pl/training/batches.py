"""Whole batches sliced from tensors that already lie on the training device.

A DataLoader collates example by example, which costs more than the whole training step of a small
network. Here an epoch is one permutation, one gather and cheap slices.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
"""contexts int64 (B, T) and targets int64 (B,)."""


class EpochOrder:
    """The order of the examples in each epoch: a permutation that depends on seed and epoch alone.

    Args:
        n_examples: N.
        seed: same seed, same orders, on every rank; None keeps the order of the data.
    """

    def __init__(self, n_examples: int, seed: int | None) -> None:
        self.n_examples = n_examples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def indices(self) -> Tensor | None:
        """int64 (N,), or None for the order of the data. Drawn on the CPU: the same on every device."""
        if self.seed is None:
            return None
        # One seed for each epoch, spread over 64 bits so that neighbouring seeds share no epoch.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % (1 << 63))
        return torch.randperm(self.n_examples, generator=generator)


class BatchLoader:
    """Iterates over (contexts, targets) in batches as equal as can be, every example once.

    Equal batches, rather than a short last one: BatchNorm cannot train on a batch of one.

    Args:
        contexts: (N, T), any integer type, on the device that will use them.
        targets: (N,).
        batch_size: most examples per batch over all ranks.
        seed: of the shuffling; None for no shuffling.
        rank: this process.
        world_size: number of processes; each takes its share of every batch.
    """

    def __init__(
        self,
        contexts: Tensor,
        targets: Tensor,
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.contexts = contexts
        self.targets = targets
        self.n_batches = -(-len(targets) // batch_size)
        self.rank = rank
        self.world_size = world_size
        # The names under which Lightning looks for set_epoch.
        self.sampler = EpochOrder(len(targets), seed)
        self.batch_sampler = None

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        contexts, targets = self.contexts, self.targets
        order = self.sampler.indices()
        if order is not None:
            order = order.to(contexts.device)
            contexts, targets = contexts[order], targets[order]
        n, shares = len(targets), self.n_batches * self.world_size
        for batch in range(self.n_batches):
            share = batch * self.world_size + self.rank
            start, end = n * share // shares, n * (share + 1) // shares
            yield contexts[start:end].long(), targets[start:end].long()  # (B, T), (B,)
