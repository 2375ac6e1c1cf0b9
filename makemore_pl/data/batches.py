"""Whole batches sliced from a stream of ids that lies on the training device.

A DataLoader collates example by example, which costs more than the whole training step of a small
network. Here a stretch of about a million examples at a time is gathered from the stream, equal contexts are
merged, and batches are slices of it: cheap for a small list, and of bounded memory for one of any size.

Notation: N examples of a stream, B batch size, T block size, V vocabulary size.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from makemore_pl.data.merging import Merged, merge, unmerged
from makemore_pl.memory import require_memory
from makemore_pl.vocabulary import BOUNDARY

Windows = tuple[Tensor, Tensor]
"""Contexts (n, T) and targets (n,), one row for each example."""

STRETCH = 1 << 20
"""Most examples that are gathered at once."""
ROW_BYTES = 330
"""Most that an example takes besides its context: places, order, target, weight; sorting takes most of it."""


@dataclass(frozen=True)
class Batch:
    """Contexts, and pairs of a context and an id that follows it.

    Attributes:
        contexts: int64 (B, T).
        rows: int64 (P,) which context a pair belongs to.
        targets: int64 (P,) the id that follows.
        weights: float32 (P,) examples that the pair stands for.
        mean_weight: examples in a batch of this epoch, on average: what a loss is divided by, so that all
            batches and ranks count alike.
    """

    contexts: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor
    mean_weight: float

    def __len__(self) -> int:
        """B."""
        return len(self.contexts)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Itself: the loader puts batches where they are wanted. Lightning asks for it."""
        assert self.contexts.device == device
        return self

    def nll(self, log_probs: Tensor) -> Tensor:
        """NLL of the batch's examples, summed, in nats.

        Args:
            log_probs: (B, V), for the batch's contexts.
        """
        n_ids = log_probs.shape[1]
        of_pairs = log_probs.flatten().gather(0, self.rows * n_ids + self.targets)  # (B, V) -> (P,)
        return -(of_pairs * self.weights).sum()


def windows(stream: Tensor, places: Tensor, block_size: int) -> Windows:
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


def mixed_seed(seed: int, *numbers: int) -> int:
    """A seed for each combination of numbers, of 63 bits; neighbouring seeds share none."""
    for number in numbers:
        seed = (seed * 1_000_003 + number) % (1 << 63)
    return seed


class Epoch:
    """Which epoch is iterated; the name and method that Lightning looks for."""

    number = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.number = epoch


class BatchLoader:
    """Iterates over batches as equal as can be, every example once.

    Equal batches, rather than a short last one: BatchNorm cannot train on a batch of one. An epoch's order
    depends on seed and epoch alone. Names stand in a stream in random order; so the stretches, taken in a
    random order, and the rows within each, shuffled, are well mixed.

    Its place is part of a checkpoint, by `state_dict`: training stopped within an epoch goes on there.

    Args:
        stream: ids (N,); contexts are gathered where it lies.
        block_size: T.
        batch_size: contexts per batch over all ranks, about.
        merged: merge equal contexts; without, a batch holds one context for each example.
        device: where the batches are wanted; None: where the stream lies.
        seed: of the shuffling, the same on every rank; None for no shuffling.
        rank: this process.
        world_size: number of processes; each takes its share of every batch.

    Raises:
        MemoryLimitError: a stretch would take too much.
    """

    def __init__(
        self,
        stream: Tensor,
        block_size: int,
        batch_size: int,
        *,
        merged: bool = True,
        device: torch.device | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.stream = stream
        self.block_size = block_size
        self.merge = merge if merged else unmerged
        self.device = device or stream.device
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.n_stretches = -(-len(stream) // STRETCH)
        n = min(len(stream), STRETCH)
        each = block_size * (8 + 2 * stream.element_size()) + ROW_BYTES
        require_memory(n * each, f"contexts: {n:,} examples × {each:,} bytes")
        self.first_stretch = self._gather(0)  # kept: of most lists it is all
        # The same number for all stretches, which are alike.
        self.batches_of_stretch = -(-len(self.first_stretch) // batch_size)
        self.next_batch = 0
        self.resume_from = {"epoch": 0, "next_batch": 0}
        # The names under which Lightning looks for set_epoch.
        self.sampler = Epoch()
        self.batch_sampler = None

    def __len__(self) -> int:
        return self.n_stretches * self.batches_of_stretch

    @property
    def smallest(self) -> int:
        """Contexts in the smallest batch that a rank is given, of the first stretch."""
        return len(self.first_stretch) // (self.batches_of_stretch * self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        # An epoch that a checkpoint has begun is gone on with; any other begins at its beginning.
        resumed = self.resume_from["epoch"] == self.sampler.number
        first = self.resume_from["next_batch"] if resumed else 0
        self.resume_from = {"epoch": 0, "next_batch": 0}
        self.next_batch = 0
        skipped, start = divmod(first, self.batches_of_stretch)
        for i, stretch in enumerate(self._shuffled_stretches(skipped), start=skipped):
            done = i * self.batches_of_stretch + start
            for j, batch in enumerate(self._batches(stretch, start), start=done + 1):
                self.next_batch = j
                yield batch
            start = 0

    def state_dict(self) -> dict[str, int]:
        """How far the epoch has come."""
        return {"epoch": self.sampler.number, "next_batch": self.next_batch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there when that epoch is iterated next."""
        self.resume_from = dict(state_dict)

    def _stretch_order(self) -> list[int]:
        if self.seed is None:
            return list(range(self.n_stretches))
        return torch.randperm(self.n_stretches, generator=self._generator(self.n_stretches)).tolist()

    def _gather(self, number: int) -> Merged:
        """Contexts and targets of one stretch."""
        n = len(self.stream)
        start, end = n * number // self.n_stretches, n * (number + 1) // self.n_stretches
        places = torch.arange(start, end, device=self.stream.device)
        return self.merge(*windows(self.stream, places, self.block_size))

    def _shuffled(self, number: int) -> Merged:
        """One stretch in this epoch's order."""
        stretch = self._gather(number) if number else self.first_stretch
        if self.seed is None:
            return stretch
        # Drawn on the CPU: the same on every device.
        order = torch.randperm(len(stretch), generator=self._generator(number))
        return stretch.take(order.to(self.stream.device))

    def _shuffled_stretches(self, skipped: int) -> Iterator[Merged]:
        """The stretches of this epoch; while one is learnt from, a thread prepares the next."""
        numbers = self._stretch_order()[skipped:]
        with ThreadPoolExecutor(1) as thread:
            ahead = None
            for number, following in zip(numbers, [*numbers[1:], None], strict=True):
                stretch = ahead.result() if ahead else self._shuffled(number)
                ahead = None if following is None else thread.submit(self._shuffled, following)
                yield stretch

    def _batches(self, stretch: Merged, start: int) -> Iterator[Batch]:
        """This rank's share of a stretch's batches, from batch `start` on."""
        sizes = stretch.ends.diff(prepend=stretch.ends.new_zeros(1))
        numbers = torch.arange(len(stretch), device=self.stream.device)
        rows = numbers.repeat_interleave(sizes).to(self.device)  # (P,)
        contexts, targets = stretch.contexts.long().to(self.device), stretch.targets.to(self.device)
        weights = stretch.weights.to(self.device)

        shares = self.batches_of_stretch * self.world_size
        bounds = [len(stretch) * share // shares for share in range(shares + 1)]  # in contexts
        pair_bounds = torch.cat([stretch.ends.new_zeros(1), stretch.ends])[bounds].tolist()
        mean_weight = len(self.stream) / (self.n_stretches * shares)
        for batch in range(start, self.batches_of_stretch):
            share = batch * self.world_size + self.rank
            first, last = bounds[share], bounds[share + 1]
            pairs = slice(pair_bounds[share], pair_bounds[share + 1])
            yield Batch(
                contexts[first:last], rows[pairs] - first, targets[pairs], weights[pairs], mean_weight
            )

    def _generator(self, number: int) -> torch.Generator:
        """For the order of stretch `number`, or of the stretches, in this epoch."""
        assert self.seed is not None
        return torch.Generator().manual_seed(mixed_seed(self.seed, self.sampler.number, number))
