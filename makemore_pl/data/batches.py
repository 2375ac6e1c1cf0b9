"""Whole batches sliced from a stream of ids that lies on the training device.

A DataLoader collates example by example, which costs more than the whole training step of a small
network. Here a stretch of about a million examples at a time is gathered from the stream, equal contexts are
merged, and batches are slices of it: cheap for a small list, and of bounded memory for one of any size.

Notation: N examples of a stream, B batch size, P pairs of a context and a target, T block size, V vocabulary
size. A *pass* goes over all examples once.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor

from makemore_pl.data.batch import Batch
from makemore_pl.data.merging import Merged, merge, unmerged
from makemore_pl.vocabulary import BOUNDARY

Windows = tuple[Tensor, Tensor]
"""Contexts (n, T) and targets (n,), one row for each example."""

STRETCH = 1 << 20
"""Most examples that are gathered at once."""


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


def names_of(targets: Tensor) -> Tensor:
    """The number, from 0, of the name that each of some ids that follow each other belongs to; int64 (n,)."""
    is_end = (targets == BOUNDARY).long()
    return is_end.cumsum(0) - is_end


def labelled(contexts: Tensor, labels: Tensor) -> Tensor:
    """A label is one more position of the context: (n, T), (n,) -> (n, 1 + T)."""
    return torch.cat([labels.unsqueeze(1), contexts], dim=1)


def mixed_seed(seed: int, *numbers: int) -> int:
    """A seed of 63 bits for each combination of numbers; neighbouring seeds share none."""
    for number in numbers:
        seed = (seed * 1_000_003 + number) % (1 << 63)
    return seed


class BatchLoader:
    """Passes over a stream, in batches as equal as can be. Iterating gives pass 0, each time.

    Equal batches, rather than a short last one: BatchNorm cannot train on a batch of one. The order of a pass
    depends on the seed and the number of the pass alone. Names stand in a stream in random order; so the
    stretches, taken in a random order, and the rows within each, shuffled, are well mixed.

    Args:
        stream: ids (N,); contexts are gathered where it lies.
        block_size: T.
        batch_size: contexts per batch over all ranks, about.
        labels: (names,) in the stream's type: an id for each name's label, which then is one more position,
            the first, of its contexts; None: there are none.
        weights: float (names,), how often each name counts; on average over the examples 1. None: once.
        merged: merge equal contexts; without, a batch holds one context for each example.
        device: where the batches are wanted; None: where the stream lies.
        seed: of the shuffling, the same on every rank; None for no shuffling.
        rank: this process.
        world_size: number of processes; each takes its share of every batch.
    """

    def __init__(
        self,
        stream: Tensor,
        block_size: int,
        batch_size: int,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        merged: bool = True,
        device: torch.device | None = None,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.stream = stream
        self.block_size = block_size
        self.labels = labels
        self.weights = weights
        self.merge = merge if merged else unmerged
        self.device = device or stream.device
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.n_stretches = -(-len(stream) // STRETCH)
        n, n_stretches = len(stream), self.n_stretches
        self.bounds = [n * stretch // n_stretches for stretch in range(n_stretches + 1)]
        self.first_names = [0]  # the number of the name in which each stretch begins
        if labels is not None or weights is not None:
            for start, end in pairwise(self.bounds[:-1]):
                self.first_names.append(self.first_names[-1] + int((stream[start:end] == BOUNDARY).sum()))
        self.first_stretch = self._gather(0)  # kept: of most lists it is all
        # The same number for all stretches, which are alike.
        self.batches_of_stretch = -(-len(self.first_stretch) // batch_size)

    def __len__(self) -> int:
        """Batches of a pass."""
        return self.n_stretches * self.batches_of_stretch

    @property
    def smallest(self) -> int:
        """Contexts in the smallest batch that a rank is given, of the first stretch."""
        return len(self.first_stretch) // (self.batches_of_stretch * self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.one_pass(0)

    def one_pass(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of a pass, from batch `first` on."""
        skipped, start = divmod(first, self.batches_of_stretch)
        for stretch in self._shuffled_stretches(number, skipped):
            yield from self._batches(stretch, start)
            start = 0

    def _gather(self, stretch: int) -> Merged:
        """Contexts and targets of one stretch, in the stream's order."""
        start, end = self.bounds[stretch : stretch + 2]
        places = torch.arange(start, end, device=self.stream.device)
        contexts, targets = windows(self.stream, places, self.block_size)
        weights = None
        if self.labels is not None or self.weights is not None:
            names = names_of(targets) + self.first_names[stretch]
            if self.labels is not None:
                contexts = labelled(contexts, self.labels[names])
            if self.weights is not None:
                weights = self.weights[names]
        return self.merge(contexts, targets, weights=weights)

    def _shuffled(self, number: int, stretch: int) -> Merged:
        """One stretch in the order of pass `number`."""
        gathered = self._gather(stretch) if stretch else self.first_stretch
        if self.seed is None:
            return gathered
        return gathered.take(self._permutation(len(gathered), number, stretch).to(self.stream.device))

    def _shuffled_stretches(self, number: int, skipped: int) -> Iterator[Merged]:
        """The stretches of pass `number`; while one is learnt from, a thread prepares the next."""
        order = list(range(self.n_stretches))
        if self.seed is not None:
            order = self._permutation(self.n_stretches, number, self.n_stretches).tolist()
        order = order[skipped:]
        thread = ThreadPoolExecutor(1)
        try:
            ahead = None
            for stretch, following in zip(order, [*order[1:], None], strict=True):
                shuffled = ahead.result() if ahead else self._shuffled(number, stretch)
                ahead = None if following is None else thread.submit(self._shuffled, number, following)
                yield shuffled
        finally:
            # A pass that is not finished ends where Python collects it: perhaps in this thread, which cannot
            # wait for itself.
            thread.shutdown(wait=False)

    def _batches(self, stretch: Merged, first: int) -> Iterator[Batch]:
        """This rank's share of a stretch's batches, from batch `first` on."""
        sizes = stretch.ends.diff(prepend=stretch.ends.new_zeros(1))
        numbers = torch.arange(len(stretch), device=self.stream.device)
        rows = numbers.repeat_interleave(sizes).to(self.device)  # (P,)
        contexts, targets = stretch.contexts.long().to(self.device), stretch.targets.to(self.device)
        weights = stretch.weights.to(self.device)

        shares = self.batches_of_stretch * self.world_size
        bounds = [len(stretch) * share // shares for share in range(shares + 1)]  # in contexts
        pair_bounds = torch.cat([stretch.ends.new_zeros(1), stretch.ends])[bounds].tolist()
        mean_weight = len(self.stream) / (self.n_stretches * shares)
        for batch in range(first, self.batches_of_stretch):
            share = batch * self.world_size + self.rank
            start, end = bounds[share], bounds[share + 1]
            pairs = slice(pair_bounds[share], pair_bounds[share + 1])
            yield Batch(contexts[start:end], rows[pairs] - start, targets[pairs], weights[pairs], mean_weight)

    def _permutation(self, n: int, *numbers: int) -> Tensor:
        """A random order of n things, int64 (n,), drawn on the CPU: the same on every device."""
        assert self.seed is not None
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, *numbers))
        return torch.randperm(n, generator=generator)
