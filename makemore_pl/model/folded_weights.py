"""`FoldedWeights`: all numbers of a folded network as NumPy arrays, and what follows from them alone.

What is written to a file and what is proven of it both start here.
Notation: B batch, T block size, P positions of a context (T, or T + 1 with labels), C n_embd, H n_hidden,
V vocabulary size, L labels, M members.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from makemore_pl.context_space import ContextSpace
from makemore_pl.errors import MakemoreError
from makemore_pl.model.members import BlockLinear

Array: TypeAlias = NDArray[np.float64]
Linear: TypeAlias = tuple[Array, Array]
"""Weight (fan_out, fan_in), or of M members a block each, (M, O, I); and bias (fan_out,), or (M*O,)."""

TABLE_LIMIT = 1 << 24
"""Most float32 entries of a table of logits, V^T * V: 64 MiB, a file that a browser still loads."""
ENUMERABLE_LIMIT = 1 << 21
"""Most entries for which the sampler makes further tables from that one, when loaded or run."""
CHUNK = 1 << 14
"""Contexts computed at a time."""


class FormError(MakemoreError):
    """A network that cannot be written in the requested form."""


@dataclass(frozen=True)
class FoldedWeights:
    """All numbers of a network without BatchNorm, float64.

    Attributes:
        block_size: T.
        embedding: (V + L, C), the characters' and then the labels'.
        hidden: each hidden Linear; a Tanh follows each. After the first, members have blocks.
        output: weight (V, H) and bias (V,).
        n_labels: L.
    """

    block_size: int
    embedding: Array
    hidden: Sequence[Linear]
    output: Linear
    n_labels: int = 0

    @classmethod
    def from_layers(cls, folded: nn.Sequential) -> "FoldedWeights":
        """Read the weights of folded layers: Embedding, Flatten, [Linear, Tanh] ..., Linear.

        The hidden Linears after the first may be `BlockLinear`.

        Raises:
            FormError: another layer, or another order of layers; a BatchNorm must be folded before.
        """
        kinds = ["Embedding", "Flatten", *["Linear", "Tanh"] * ((len(folded) - 3) // 2), "Linear"]
        last = len(folded) - 1
        for i, (name, layer) in enumerate(folded.named_children()):
            expected = kinds[i] if i < len(kinds) else "nothing"
            is_hidden_block = isinstance(layer, BlockLinear) and i not in (2, last)
            if expected != ("Linear" if is_hidden_block else type(layer).__name__):
                raise FormError(
                    f"{name}: a {type(layer).__name__} where {expected} was expected; a graph is built of "
                    "Embedding, Flatten, any number of Linear and Tanh, and a last Linear"
                )
        embedding = folded[0]
        assert isinstance(embedding, nn.Embedding)
        linears = [layer for layer in folded if isinstance(layer, nn.Linear)]
        *hidden, output = [(_weight(linear), _array(linear.bias)) for linear in linears]
        n_labels = embedding.num_embeddings - linears[-1].out_features
        block_size = linears[0].in_features // embedding.embedding_dim - (n_labels > 0)
        return cls(block_size, _array(embedding.weight), hidden, output, n_labels)

    @property
    def linears(self) -> list[Linear]:
        """All Linears in order, the output last."""
        return [*self.hidden, self.output]

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.embedding) - self.n_labels

    @property
    def space(self) -> ContextSpace:
        """All contexts that the network can be given."""
        return ContextSpace(self.vocab_size, self.block_size, self.n_labels)

    @property
    def n_contexts(self) -> int:
        """V^T, or L * V^T, exact however large."""
        return self.space.total

    @property
    def is_enumerable(self) -> bool:
        """True for so few contexts that a sampler may hold all of their logits."""
        return self.n_contexts * self.vocab_size <= ENUMERABLE_LIMIT

    def logits(self, contexts: NDArray[np.int64]) -> Array:
        """contexts int64 (B, P) -> logits float64 (B, V)."""
        x = self.embedding[contexts].reshape(len(contexts), -1)  # (B, P) -> (B, P*C)
        for weight, bias in self.hidden:
            x = np.tanh(multiply(weight, x) + bias)  # (B, fan_in) -> (B, H)
        weight, bias = self.output
        return np.asarray(x @ weight.T + bias)  # (B, H) -> (B, V)

    @functools.cached_property
    def table(self) -> NDArray[np.float32]:
        """Logits after every context, computed in float64, float32 (contexts, V); row r is context number r.

        Raises:
            FormError: the table would have more than `TABLE_LIMIT` entries.
        """
        v, t, rows = self.vocab_size, self.block_size, self.n_contexts
        if rows * v > TABLE_LIMIT:
            labels, times = (
                (f", {self.n_labels} labels", f"{self.n_labels} * ") if self.n_labels else ("", "")
            )
            raise FormError(
                f"form table: {v} characters and a context of {t}{labels} make {times}{v}^{t} * {v} = "
                f"{rows * v:,} logits, "
                f"{rows * v * 4 / 2**20:,.0f} MiB; at most {TABLE_LIMIT:,} ({TABLE_LIMIT * 4 // 2**20} MiB) "
                "are stored; use form mlp or fused"
            )
        table = np.empty((rows, v), dtype=np.float32)
        for start in range(0, rows, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, rows))
            table[numbers] = self.logits(self.space.contexts(numbers))  # (B, P) -> (B, V)
        return table

    def position_tables(self) -> tuple[list[Array], Array]:
        """First Linear after the embedding as look-ups, added up over the positions, and with the bias.

        Returns:
            tables, P of float64 (ids of the position, H), and bias (H,). Without a hidden layer that Linear
            is the output: H = V.
        """
        weight, bias = self.linears[0]
        per_position = weight.reshape(len(weight), len(self.space.sizes), -1)  # (H, P*C) -> (H, P, C)
        tables = np.einsum("vc,hpc->pvh", self.embedding, per_position)  # (P, V + L, H)
        of_position = zip(tables, self.space.first_ids, self.space.sizes, strict=True)
        return [table[first : first + size] for table, first, size in of_position], bias


def multiply(weight: Array, x: Array) -> Array:
    """(..., fan_in) -> (..., fan_out), with one matrix (fan_out, fan_in), or with a block for each member."""
    if weight.ndim == 2:
        return np.asarray(x @ weight.T)
    inputs = x.reshape(-1, len(weight), weight.shape[2]).swapaxes(0, 1)  # (..., M*I) -> (M, n, I)
    outputs = inputs @ weight.swapaxes(1, 2)  # (M, n, O)
    return np.asarray(outputs.swapaxes(0, 1).reshape(*x.shape[:-1], -1))


def row_sums(weight: Array) -> Array:
    """(fan_out, fan_in), or blocks (M, O, I) -> (fan_out,)."""
    return np.asarray(weight.sum(axis=-1).reshape(-1))


def _weight(linear: nn.Linear) -> Array:
    return _array(linear.blocks() if isinstance(linear, BlockLinear) else linear.weight)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()
