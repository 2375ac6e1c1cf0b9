"""Whole batches sliced from a stream of ids that lies on the training device.

A DataLoader collates example by example, which costs more than the whole training step of a small
network. Here the contexts of about a million examples at a time are gathered from the stream, and batches are
slices of them: cheap for a small list, and of bounded memory for one of any size.

Notation: N examples of a stream, B batch size, T block size.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from makemore_pl.vocabulary import BOUNDARY

Batch = tuple[Tensor, Tensor]
"""contexts int64 (B, T) and targets int64 (B,)."""

GATHERED = 1 << 20
"""Examples whose contexts are gathered at once."""
BLOCK = 1 << 12
"""Neighbouring examples that stay together until they are gathered: a stream on disk is read in pieces."""


def windows(stream: Tensor, places: Tensor, block_size: int) -> Batch:
    """The contexts before some places of a stream, and the ids there.

    Args:
        stream: ids (N,), each name followed by one boundary.
        places: int64 (n,).
        block_size: T.

    Returns:
        Contexts (n, T), padded on the left with boundaries, and targets (n,), in the stream's dtype.
    """
    contexts = stream.new_empty((len(places), block_size))
    inside = torch.ones(len(places), dtype=torch.bool, device=places.device)
    for back in range(1, block_size + 1):
        # Before its start, place -1 is the stream's last: a boundary, as it should be.
        token = stream[(places - back).clamp(min=-1)]
        inside &= token != BOUNDARY  # False from the name's start on
        contexts[:, block_size - back] = token * inside
    return contexts, stream[places]


class EpochOrder:
    """The order of the examples in each epoch, which depends on seed and epoch alone.

    Blocks of neighbours are shuffled, then the examples of each stretch that is asked for. The names of a
    stream already stand in random order; up to one stretch, all orders are equally likely.

    Args:
        n_examples: N.
        seed: same seed, same orders, on every rank; None keeps the order of the stream.
    """

    def __init__(self, n_examples: int, seed: int | None) -> None:
        self.n_examples = n_examples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def stretches(self, bounds: list[int]) -> Iterator[Tensor]:
        """Places in the stream, int64, of the epoch's examples number bounds[i] … bounds[i + 1] - 1.

        Drawn on the CPU: the same on every device.
        """
        if self.seed is None:
            yield from (torch.arange(start, end) for start, end in pairwise(bounds))
            return
        # One seed for each epoch, spread over 64 bits so that neighbouring seeds share no epoch.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % (1 << 63))
        whole_blocks = self.n_examples // BLOCK
        blocks = torch.randperm(whole_blocks, generator=generator)
        blocks = torch.cat([blocks, torch.tensor([whole_blocks])])  # what is left of a block stays last
        for start, end in pairwise(bounds):
            places = torch.arange(start, end)
            places = blocks[places // BLOCK] * BLOCK + places % BLOCK
            yield places[torch.randperm(len(places), generator=generator)]


class BatchLoader:
    """Iterates over (contexts, targets) in batches as equal as can be, every example once.

    Equal batches, rather than a short last one: BatchNorm cannot train on a batch of one.

    Its place is part of a checkpoint, by `state_dict`: training stopped within an epoch goes on there.

    Args:
        stream: ids (N,); contexts are gathered where it lies.
        block_size: T.
        batch_size: most examples per batch over all ranks.
        device: where the batches are wanted; None: where the stream lies.
        seed: of the shuffling; None for no shuffling.
        rank: this process.
        world_size: number of processes; each takes its share of every batch.
    """

    def __init__(
        self,
        stream: Tensor,
        block_size: int,
        batch_size: int,
        *,
        device: torch.device | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.stream = stream
        self.block_size = block_size
        self.device = device or stream.device
        self.n_batches = -(-len(stream) // batch_size)
        self.batches_at_once = max(1, GATHERED // batch_size)
        self.rank = rank
        self.world_size = world_size
        self.next_batch = 0
        self.resume_from = {"epoch": 0, "next_batch": 0}
        # The names under which Lightning looks for set_epoch.
        self.sampler = EpochOrder(len(stream), seed)
        self.batch_sampler = None

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        # An epoch that a checkpoint has begun is gone on with; any other begins at its beginning.
        resumed = self.resume_from["epoch"] == self.sampler.epoch
        first = self.resume_from["next_batch"] if resumed else 0
        self.resume_from = {"epoch": 0, "next_batch": 0}
        starts = range(0, self.n_batches, self.batches_at_once)
        bounds = [self._bound(batch) for batch in (*starts, self.n_batches)]
        for start, bound, places in zip(starts, bounds, self.sampler.stretches(bounds), strict=False):
            batches = range(max(start, first), min(start + self.batches_at_once, self.n_batches))
            if not batches:
                continue
            shares = [
                places[self._bound(batch, self.rank) - bound : self._bound(batch, self.rank + 1) - bound]
                for batch in batches
            ]
            own_places = torch.cat(shares).to(self.stream.device)
            contexts, targets = windows(self.stream, own_places, self.block_size)
            sizes = [len(share) for share in shares]
            in_batches = zip(
                batches,
                torch.split(contexts.to(self.device).long(), sizes),  # (B, T) each
                torch.split(targets.to(self.device).long(), sizes),  # (B,) each
                strict=True,
            )
            for batch, context, target in in_batches:
                self.next_batch = batch + 1
                yield context, target

    def state_dict(self) -> dict[str, int]:
        """How far the epoch has come."""
        return {"epoch": self.sampler.epoch, "next_batch": self.next_batch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there when that epoch is iterated next."""
        self.resume_from = dict(state_dict)

    def _bound(self, batch: int, rank: int = 0) -> int:
        """Number of the first example of a rank's share of a batch."""
        return len(self.stream) * (batch * self.world_size + rank) // (self.n_batches * self.world_size)
