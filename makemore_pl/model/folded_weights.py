"""`FoldedWeights`: all numbers of a folded network as NumPy arrays, and what follows from them alone.

What is written to a file and what is proven of it both start here.
Notation: B batch, T block size, C n_embd, H n_hidden, V vocabulary size.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from makemore_pl.errors import MakemoreError

Array: TypeAlias = NDArray[np.float64]
Linear: TypeAlias = tuple[Array, Array]
"""Weight (fan_out, fan_in) and bias (fan_out,)."""

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
        embedding: (V, C).
        hidden: weight (H, fan_in) and bias (H,) of each hidden Linear; a Tanh follows each.
        output: weight (V, H) and bias (V,).
    """

    block_size: int
    embedding: Array
    hidden: Sequence[Linear]
    output: Linear

    @classmethod
    def from_layers(cls, folded: nn.Sequential) -> "FoldedWeights":
        """Read the weights of folded layers: Embedding, Flatten, [Linear, Tanh] ..., Linear.

        Raises:
            FormError: another layer, or another order of layers; a BatchNorm must be folded before.
        """
        kinds = ["Embedding", "Flatten", *["Linear", "Tanh"] * ((len(folded) - 3) // 2), "Linear"]
        for i, (name, layer) in enumerate(folded.named_children()):
            expected = kinds[i] if i < len(kinds) else "nothing"
            if type(layer).__name__ != expected:
                raise FormError(
                    f"{name}: a {type(layer).__name__} where {expected} was expected; a graph is built of "
                    "Embedding, Flatten, any number of Linear and Tanh, and a last Linear"
                )
        embedding = folded[0]
        assert isinstance(embedding, nn.Embedding)
        linears = [layer for layer in folded if isinstance(layer, nn.Linear)]
        *hidden, output = [(_array(linear.weight), _array(linear.bias)) for linear in linears]
        block_size = linears[0].in_features // embedding.embedding_dim
        return cls(block_size, _array(embedding.weight), hidden, output)

    @property
    def linears(self) -> list[Linear]:
        """All Linears in order, the output last."""
        return [*self.hidden, self.output]

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.embedding)

    @property
    def n_contexts(self) -> int:
        """V^T, exact however large."""
        return int(self.vocab_size**self.block_size)

    @property
    def is_enumerable(self) -> bool:
        """True for so few contexts that a sampler may hold all of their logits."""
        return self.n_contexts * self.vocab_size <= ENUMERABLE_LIMIT

    @property
    def row_factors(self) -> NDArray[np.int64]:
        """int64 (T,): the context c_1 … c_T is number sum(c_t * V^(T-t)), so counting walks through all."""
        return np.array([self.vocab_size**t for t in reversed(range(self.block_size))], dtype=np.int64)

    def contexts(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The contexts of these numbers: int64 (B,) -> int64 (B, T)."""
        return numbers[:, None] // self.row_factors % self.vocab_size

    def logits(self, contexts: NDArray[np.int64]) -> Array:
        """contexts int64 (B, T) -> logits float64 (B, V)."""
        x = self.embedding[contexts].reshape(len(contexts), -1)  # (B, T) -> (B, T*C)
        for weight, bias in self.hidden:
            x = np.tanh(x @ weight.T + bias)  # (B, fan_in) -> (B, H)
        weight, bias = self.output
        return np.asarray(x @ weight.T + bias)  # (B, H) -> (B, V)

    @functools.cached_property
    def table(self) -> NDArray[np.float32]:
        """Logits after every context, computed in float64, float32 (V^T, V); row r is context number r.

        Raises:
            FormError: the table would have more than `TABLE_LIMIT` entries.
        """
        v, t, rows = self.vocab_size, self.block_size, self.n_contexts
        if rows * v > TABLE_LIMIT:
            raise FormError(
                f"form table: {v} characters and a context of {t} make {v}^{t} * {v} = {rows * v:,} logits, "
                f"{rows * v * 4 / 2**20:,.0f} MiB; at most {TABLE_LIMIT:,} ({TABLE_LIMIT * 4 // 2**20} MiB) "
                "are stored; use form mlp or fused"
            )
        table = np.empty((rows, v), dtype=np.float32)
        for start in range(0, rows, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, rows))
            table[numbers] = self.logits(self.contexts(numbers))  # (B, T) -> (B, V)
        return table

    def position_tables(self) -> tuple[Array, Array]:
        """First Linear after the embedding as look-ups: pre-activation = sum over t of tables[t, c_t] + bias.

        Returns:
            tables float64 (T, V, H) and bias (H,). Without a hidden layer that Linear is the output: H = V.
        """
        weight, bias = self.linears[0]
        per_position = weight.reshape(len(weight), self.block_size, -1)  # (H, T*C) -> (H, T, C)
        return np.einsum("vc,htc->tvh", self.embedding, per_position), bias


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()
