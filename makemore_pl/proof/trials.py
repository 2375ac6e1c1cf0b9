"""Requests that together take every way through a sampler's graph.

The graph chooses by whether there are so many draws that a table of limits pays, by whether there is a
prefix, by how many draws may not end a name, and by how the distribution is bent. A test counts that every
node of every form runs in these requests, for at least one name.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.graph.loops import DRAWS_PER_CONTEXT
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.runtime.decoding import Decoding
from makemore_pl.vocabulary import BOUNDARY

PLAIN_NAMES = 10_000
"""Names drawn from the plain model; the other requests are for fewer."""
FEW_NAMES, MANY_NAMES = 100, 250
"""Names of the other requests: for many, columns of zeros are added until a table of limits pays; where one
pays for the few as well, there are fewer of them."""
MAX_LOGITS = 1 << 25
"""Logits held at a time; of a very large vocabulary, fewer names are compared."""
TEMPERATURES = (1.0, 0.5, 1.5, 0.0)
FILTERS: tuple[dict[str, Any], ...] = ({}, {"top_k": 3}, {"top_p": 0.8}, {"top_k": 5, "top_p": 0.9})
SHORT = (0, 1, 3)
"""Draws that may not end a name, beyond those of the prefix."""
EDGES = np.array([0, 2**-149, 2**-126, 2**-24, 0.5, 1 - 2**-24], dtype=np.float32)
"""The ends of the range of uniforms, where the border is that of all characters; and its middle."""


@dataclass(frozen=True)
class Trial:
    """One request.

    Attributes:
        seed: of the uniforms.
        n: number of names.
        steps: draws of a name that are random. All later uniforms are 0, which ends it as soon as possible.
        width: columns of the uniforms.
        prefix: int64 (p,).
        decoding: temperature, top-k, top-p, minimal length.
        on_edges: the uniforms are among `EDGES`, so that many draws lie on a border.
        first_label, n_labels: names have labels with so many ids, from this one on; 0: they have none.
    """

    seed: int
    n: int
    steps: int
    width: int
    prefix: NDArray[np.int64]
    decoding: Decoding
    on_edges: bool
    first_label: int
    n_labels: int

    def uniforms(self) -> NDArray[np.float32]:
        """float32 (n, width), the same each time."""
        rng = np.random.default_rng(self.seed)
        shape = (self.n, self.steps)
        drawn = rng.choice(EDGES, shape) if self.on_edges else rng.random(shape, dtype=np.float32)
        return np.pad(drawn, ((0, 0), (0, self.width - self.steps)))

    def label_ids(self) -> NDArray[np.int64] | None:
        """int64 (n,), all labels mixed; None where there are none."""
        if not self.n_labels:
            return None
        return self.first_label + np.random.default_rng([self.seed, 1]).integers(self.n_labels, size=self.n)


def trials(weights: FoldedWeights, steps: int) -> Iterator[Trial]:
    """The requests for a network of this size; the same each time.

    Args:
        weights: for the sizes.
        steps: draws for each name.
    """
    v = weights.vocab_size
    rng, seeds = np.random.default_rng(0), itertools.count()
    prefixes = [rng.integers(1, v, size) for size in (0, 2, weights.block_size + 2)]
    prefixes[2][1] = BOUNDARY  # a prefix that no name has

    def trial(
        n: int, width: int, prefix: NDArray[np.int64], short: int, bend: dict[str, Any], edges: bool = False
    ) -> Trial:
        if "top_k" in bend:
            bend = bend | {"top_k": min(bend["top_k"], v - 1)}  # of a tiny vocabulary, not all of it
        decoding = Decoding(min_length=short and len(prefix) + short, **bend)
        return Trial(next(seeds), n, min(steps, width), width, prefix, decoding, edges, v, weights.n_labels)

    yield trial(min(PLAIN_NAMES, max(100, MAX_LOGITS // v)), steps, prefixes[0], 1, {})
    sizes = [(FEW_NAMES, steps)]
    if weights.is_enumerable:
        # A table pays for more uniforms than so many; n names of w draws have (n + 1) * (w + 1), padded.
        most_by_rows = DRAWS_PER_CONTEXT * weights.n_contexts
        width = min(steps, most_by_rows // 2 - 1)
        few = min(FEW_NAMES, most_by_rows // (width + 1) - 1)
        sizes = [(few, width), (MANY_NAMES, max(steps, most_by_rows // MANY_NAMES + 1))]
    for (n, width), prefix, short in itertools.product([*sizes, (0, steps)], prefixes, SHORT):
        yield trial(n, width, prefix, short, {})
    # Every size with every bend; of each temperature and of each filter, with every minimal length.
    for (i, t), (j, kept), (n, width) in itertools.product(
        enumerate(TEMPERATURES), enumerate(FILTERS), sizes
    ):
        if t != 1 or kept:
            yield trial(n, width, prefixes[i * j % 3], SHORT[(i + j) % 3], {"temperature": t, **kept})
    for (n, width), short, kept in itertools.product(sizes, SHORT, (FILTERS[0], FILTERS[-1])):
        yield trial(n, width, prefixes[0], short, kept, edges=True)
