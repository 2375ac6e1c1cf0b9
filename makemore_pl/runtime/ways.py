"""Ways to draw names: as the engine does, exactly for a wish, or by rejecting what does not fulfil it."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from makemore_pl.runtime.engines import GraphSampler, Names, NextCharacterModel
from makemore_pl.runtime.request import Wish

if TYPE_CHECKING:
    from makemore_pl.runtime.exact import Given

BATCH_ENTRIES = 1 << 21
"""Entries of a batch's largest matrix: bounds its memory, however many names are asked for."""
PATIENCE = 100_000
"""Draws in a row without an accepted name after which a filtered request is given up."""


class Batch(NamedTuple):
    """Names, their log-likelihoods in nats under the plain model, boundary included, and their labels if any.

    The likelihood of a name that has a label is that among names of this label.
    """

    names: list[str]
    log_probs: list[float]
    labels: Sequence[str] = ()

    def only(self, rows: list[int]) -> "Batch":
        """Some of the names."""
        labels = [self.labels[i] for i in rows] if self.labels else ()
        return Batch([self.names[i] for i in rows], [self.log_probs[i] for i in rows], labels)


@dataclass(frozen=True)
class Way:
    """A way to draw names, and which of them are kept."""

    steps: int  # uniforms for each name
    entries_per_name: int  # of the largest matrix
    generate: Callable[[NDArray[np.float32]], Names]  # uniforms (n, steps) -> n names
    labels: Callable[[NDArray[np.float32]], Sequence[str]] = lambda uniforms: ()  # of the same names, if any
    accept: Callable[[str], bool] | None = None  # None: all are kept

    @property
    def most(self) -> int:
        """Names that may be drawn at a time."""
        return max(1, BATCH_ENTRIES // max(self.steps, self.entries_per_name))

    def draw(self, uniforms: NDArray[np.float32]) -> Batch:
        """A name for each row of uniforms (n, steps), kept or not."""
        codepoints, log_probs = self.generate(uniforms)
        return Batch(to_text(codepoints), log_probs.tolist(), self.labels(uniforms))

    def batches(self, n: int, seed: int | Sequence[int] | None, most: int = sys.maxsize) -> Iterator[Batch]:
        """Draw n names, at most so many at a time, or fewer if the last 100,000 have all been rejected."""
        generator = np.random.default_rng(seed)
        missing = n
        fruitless = 0  # draws since the last accepted name
        while missing > 0 and fruitless < PATIENCE:
            # Only some are kept: a surplus meets most requests in the first round.
            size = min(most, self.most, missing if self.accept is None else max(1_000, 2 * missing))
            # A row a name: a seed's first names are the same, however many are asked for.
            batch = self.draw(generator.random((size, self.steps), dtype=np.float32))
            if self.accept is not None:
                batch = batch.only([i for i, name in enumerate(batch.names) if self.accept(name)][:missing])
            missing -= len(batch.names)
            fruitless = 0 if batch.names else fruitless + size
            if batch.names:
                yield batch

    def first(self, uniforms: Callable[[int], NDArray[np.float32]]) -> str | None:
        """Draw one name after the other until one is kept; None if there are too many.

        Args:
            uniforms: number of the attempt -> uniforms (1, steps).
        """
        for attempt in range(PATIENCE):
            [name] = self.draw(uniforms(attempt)).names
            if self.accept is None or self.accept(name):
                return name
        return None

    def without_repeats(self, seen: set[str]) -> "Way":
        """The same way, with every name once, and none of those seen before; all that are drawn are added."""

        def accept(name: str) -> bool:
            if name in seen or (self.accept is not None and not self.accept(name)):
                return False
            seen.add(name)
            return True

        return replace(self, accept=accept)


def plain(engine: NextCharacterModel | GraphSampler, wish: Wish) -> Way:
    """As the engine does it, which knows how names begin, the lengths, temperature, top-k and top-p."""
    info = engine.info
    prefix = info.vocabulary.encode(wish.prefix)
    steps = wish.steps(info.longest_name) - len(prefix)
    draw = partial(engine.generate, prefix=prefix, decoding=wish)
    way = Way(steps, engine.entries_per_name, draw)
    if not info.labels and wish.label is None:
        return way
    v = len(info.vocabulary)
    if wish.label is not None:
        label_id = info.label_id(wish.label)
        return replace(
            way,
            generate=lambda uniforms: draw(uniforms, label_ids=np.full(len(uniforms), label_id)),
            labels=_always(wish.label),
        )
    # A label is one more position: it is drawn before the first character, in the same way.
    cumulative = np.cumsum(info.label_shares)

    def numbers(uniforms: NDArray[np.float32]) -> NDArray[np.int64]:
        drawn: NDArray[np.int64] = (cumulative <= uniforms[:, :1] * cumulative[-1]).sum(axis=1)  # (n,)
        return drawn

    return replace(
        way,
        steps=steps + 1,
        generate=lambda uniforms: draw(
            np.ascontiguousarray(uniforms[:, 1:]), label_ids=v + numbers(uniforms)
        ),
        labels=lambda uniforms: [info.labels[number] for number in numbers(uniforms)],
    )


def _always(label: str) -> Callable[[NDArray[np.float32]], list[str]]:
    return lambda uniforms: [label] * len(uniforms)


def exact(given: "Given", codepoints: NDArray[np.int32], label: str | None = None) -> Way:
    """From the distribution of names given a wish.

    Args:
        given: the distribution.
        codepoints: int32 (V,), of each id.
        label: of all names, where one is asked for.
    """
    from makemore_pl.wishes.mixture import Mixture

    def generate(uniforms: NDArray[np.float32]) -> Names:
        tokens, log_prob = given.draw(len(uniforms), lambda step, names: uniforms[names, step])
        return codepoints[tokens], log_prob.astype(np.float32)

    way = Way(given.n_uniforms, len(codepoints), generate)
    if isinstance(given, Mixture):
        return replace(way, labels=lambda uniforms: given.labels(uniforms[:, 0]))
    return way if label is None else replace(way, labels=_always(label))


def rejecting(engine: NextCharacterModel | GraphSampler, wish: Wish) -> Way:
    """From the same distribution: names of all kinds, of which those are kept that fulfil the wish."""
    way = plain(engine, replace(wish, min_length=0))
    longest = wish.steps(engine.info.longest_name)
    # With one character more, names that have not ended in time can be told.
    return replace(way, steps=way.steps + 1, accept=lambda name: len(name) <= longest and wish.accepts(name))


def different(
    way: Way, n: int, seed: int | None, others: Callable[[set[str]], Way | None]
) -> Iterator[Batch]:
    """Draw n names, every name once. Where only rare ones are left, those seen are ruled out beforehand.

    That changes no probability: a repeat that is rejected says nothing about the next name.

    Args:
        way: the way to draw them.
        n: how many.
        seed: the same, the same names.
        others: names seen -> a way to draw others alone; None if there is none.
    """
    seen: set[str] = set()
    following: Way | None = way
    for attempt in itertools.count():
        n_before = len(seen)
        if following is None or n_before >= n:
            return
        seeds = seed if attempt == 0 or seed is None else [seed, attempt]
        yield from following.without_repeats(seen).batches(n - n_before, seeds)
        missing = n - len(seen)
        following = others(seen) if 0 < missing < n - n_before else None


def to_text(codepoints: NDArray[np.int32]) -> list[str]:
    """Rows of code points, 0 after the end, as texts: NumPy's own fixed-width texts end at the zeros."""
    n, length = codepoints.shape
    if length == 0:
        return [""] * n
    texts: list[str] = np.ascontiguousarray(codepoints).view(f"<U{length}")[:, 0].tolist()
    return texts
