"""Labels in the sampler's graph: where a name's context begins with its label.

Notation: n names, p prefix length, T block size, P = T + 1, V vocabulary size, L labels.
"""

from dataclasses import dataclass

import numpy as np

from makemore_pl.graph.builder import GraphBuilder, Value
from makemore_pl.graph.draw import ROWS
from makemore_pl.graph.forms import add_label_numbers
from makemore_pl.model.folded_weights import FoldedWeights


@dataclass(frozen=True)
class NameLabels:
    """The label of each name.

    Attributes:
        weights: the network.
        numbers: int64 (n + 1,), from 0 to L-1; the padding's row has the first label.
    """

    weights: FoldedWeights
    numbers: Value

    @classmethod
    def of(cls, g: GraphBuilder, weights: FoldedWeights, label: Value, n: Value) -> "NameLabels":
        """From the graph's input, int64 (n,): a run fails on other than n, and on one that is no label's."""
        numbers = add_label_numbers(g, weights, g.Reshape(label, n, allowzero=1))
        return cls(weights, g.Concat(numbers, np.array([0]), axis=0))

    def contexts(self, g: GraphBuilder, characters: Value) -> Value:
        """Put the labels before the characters, int64 (1, T): contexts (n + 1, P)."""
        ids = g.Unsqueeze(g.Add(self.numbers, np.int64(self.weights.vocab_size)), ROWS)
        return g.Concat(ids, g.Expand(characters, g.Concat(g.Shape(self.numbers), ROWS, axis=0)), axis=1)

    def rows(self, g: GraphBuilder, characters: Value) -> Value:
        """Numbers of the same contexts, int64 (n + 1,)."""
        if not self.weights.is_enumerable:  # numbers are for tables alone; here they would overflow
            return self.numbers
        # Not `add_row` of all contexts: a sum for each of many names takes as long as some characters.
        of_label, *of_characters = self.weights.space.factors
        number = g.ReduceSum(g.Mul(characters, np.array(of_characters)), ROWS, keepdims=0)  # (1,)
        return g.Add(g.Mul(self.numbers, of_label), number)

    def before_each(self, g: GraphBuilder, contexts: Value, following: Value) -> tuple[Value, Value]:
        """Each of the L labels before each of some contexts.

        Args:
            contexts: int64 (p, T).
            following: int64 (p,), the id after each.

        Returns:
            Contexts int64 (L * p, P), label by label, and the ids after them, (L * p,).
        """
        n_labels, all_rows = self.weights.n_labels, np.array([-1])
        p = g.Shape(following)
        all_ids = np.arange(n_labels)[:, None, None] + self.weights.vocab_size  # (L, 1, 1)
        labels = g.Expand(all_ids, g.Concat(ROWS, p, ROWS, axis=0))  # (L, p, 1)
        characters = g.Expand(contexts, g.Concat(np.array([n_labels]), p, ROWS, axis=0))  # (L, p, T)
        shape = np.array([-1, self.weights.block_size + 1])
        labelled = g.Reshape(g.Concat(labels, characters, axis=2), shape)
        ids = g.Expand(following, g.Concat(np.array([n_labels]), p, axis=0))  # (L, p)
        return labelled, g.Reshape(ids, all_rows)

    def sums_for_names(self, g: GraphBuilder, values: Value) -> Value:
        """Sums over each label's rows: float64 (L * p, 1) -> for each name that of its label, (n + 1,)."""
        by_label = g.ReduceSum(g.Reshape(values, np.array([self.weights.n_labels, -1])), ROWS, keepdims=0)
        return g.Gather(by_label, self.numbers)
