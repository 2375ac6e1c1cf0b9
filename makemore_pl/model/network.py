"""`BatchNormMLP`: the network itself, a plain `nn.Module`.

Notation: B batch, T block_size, P positions, C n_embd, H n_hidden, V vocab_size, L n_labels, M n_members.
"""

from collections import OrderedDict
from typing import TypeGuard

from torch import Generator, Tensor, nn

from makemore_pl.errors import RequestError
from makemore_pl.memory import require_memory
from makemore_pl.model.initialisation import Scheme, initialise
from makemore_pl.model.members import MemberMean, member_linear


class BatchNormMLP(nn.Module):
    """Next-character logits from the last T characters (Bengio et al. 2003, with BatchNorm).

    Embedding → Flatten → [Linear → BatchNorm1d → Tanh (→ Dropout)] × n_layers → Linear (→ BatchNorm1d).
    A Linear before a BatchNorm has no bias: the BatchNorm would subtract it.
    A label is one more position of the context, before the characters: P = T + 1. It has ids and rows of the
    embedding of its own, after those of the characters. Without labels, P = T.
    Members are networks side by side on one embedding, and the logits are the mean of theirs.

    Args:
        vocab_size: V, ids 0 … V-1, 0 being the boundary.
        block_size: T.
        n_embd: C, width of a character's embedding.
        n_hidden: H, width of each hidden layer of a member.
        n_layers: number of hidden layers.
        batch_norm: put a BatchNorm after each hidden Linear.
        norm_output: put one after the output Linear, too.
        momentum: share of a new batch in BatchNorm's running statistics.
        dropout: share of hidden activations zeroed in training.
        init: scheme of the initial weights, see `initialisation.py`.
        hidden_gain: numerator of the scheme `kaiming`. Before a BatchNorm it changes no output, only how fast
            the weights turn: 0.5 trains best there. Without BatchNorm, tanh needs 5/3.
        output_gain: standard deviation of the output weights at the start, or the output BatchNorm's gain:
            small, so that the first predictions are about uniform and the first loss is ln V.
        init_seed: seed of the initial weights; None: PyTorch's global generator.
        n_labels: L; label number l has id V + l.
        n_members: M. Folded, it is one network M times as wide.

    Raises:
        RequestError: a size, share or seed out of its range.
        MemoryLimitError: more weights than there is memory for.
    """

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_embd: int = 24,
        n_hidden: int = 200,
        n_layers: int = 1,
        batch_norm: bool = True,
        norm_output: bool = False,
        momentum: float = 0.1,
        dropout: float = 0.0,
        init: Scheme = "kaiming",
        hidden_gain: float = 0.5,
        output_gain: float | None = 0.01,
        init_seed: int | None = None,
        n_labels: int = 0,
        n_members: int = 1,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.block_size = block_size
        self.n_embd = n_embd
        self.n_hidden = n_hidden
        self.n_layers = n_layers
        self.n_labels = n_labels
        self.n_members = n_members
        self.init: Scheme = init
        self.hidden_gain = hidden_gain
        self.output_gain = output_gain
        for name in ("vocab_size", "block_size", "n_embd", "n_hidden", "n_layers", "n_members"):
            if (size := getattr(self, name)) < 1:
                raise RequestError(f"model.{name} must be at least 1, not {size}")
        if n_labels < 0:
            raise RequestError(f"model.n_labels must be at least 0, not {n_labels}")
        if not 0 <= dropout < 1:
            raise RequestError(f"model.dropout must be at least 0 and below 1, not {dropout}")
        if not 0 < momentum <= 1:
            raise RequestError(f"model.momentum must be above 0 and at most 1, not {momentum}")
        if init_seed is not None and not -(1 << 63) <= init_seed < 1 << 64:
            raise RequestError(f"model.init_seed must fit 64 bits, not {init_seed}")
        n_positions = block_size + (n_labels > 0)
        n_weights = (vocab_size + n_labels + n_positions * self.width) * n_embd
        n_weights += ((n_layers - 1) * n_hidden + vocab_size) * self.width
        require_memory(8 * n_weights, f"model: {n_weights:,} weights × 8 bytes")  # drawn, then copied

        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["embedding"] = nn.Embedding(vocab_size + n_labels, n_embd)  # (B, P) -> (B, P, C)
        layers["flatten"] = nn.Flatten()  # (B, P, C) -> (B, P*C)
        fan_in = n_positions * n_embd
        for i in range(1, n_layers + 1):
            parts = 1 if i == 1 else n_members  # all members read the one embedding
            # (B, P*C), or (B, M*H) -> (B, M*H)
            layers[f"linear_{i}"] = member_linear(parts, fan_in, self.width, bias=not batch_norm)
            if batch_norm:
                layers[f"norm_{i}"] = nn.BatchNorm1d(self.width, momentum=momentum)
            layers[f"tanh_{i}"] = nn.Tanh()
            if dropout:
                layers[f"dropout_{i}"] = nn.Dropout(dropout)
            fan_in = self.width
        n_logits = n_members * vocab_size
        layers["output"] = member_linear(n_members, fan_in, n_logits, bias=not norm_output)  # -> (B, M*V)
        if norm_output:
            layers["output_norm"] = nn.BatchNorm1d(n_logits, momentum=momentum)
        if n_members > 1:
            layers["mean"] = MemberMean(n_members)  # (B, M*V) -> (B, V)
        self.layers = nn.Sequential(layers)
        self.reset_parameters(None if init_seed is None else Generator().manual_seed(init_seed))

    def forward(self, context: Tensor, by_member: bool = False) -> Tensor:
        """Compute logits (B, V), in the dtype of the weights, from contexts int64 (B, P).

        With `by_member`, each member's own, (B, M, V): every member learns by its own loss.
        """
        layers = self.layers[:-1] if by_member and self.n_members > 1 else self.layers
        logits: Tensor = layers(context)
        return logits.reshape(len(logits), self.n_members, -1) if by_member else logits

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw all weights again by the model's scheme; None: from PyTorch's global generator."""
        initialise(
            self.layers,
            self.init,
            hidden_gain=self.hidden_gain,
            output_gain=self.output_gain,
            generator=generator,
        )

    @property
    def width(self) -> int:
        """M*H: hidden units of a layer, all members together."""
        return self.n_members * self.n_hidden

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters. Running statistics are not among them."""
        return sum(parameter.numel() for parameter in self.parameters())


def is_batch_norm(module: nn.Module) -> TypeGuard[nn.BatchNorm1d]:
    """Recognise a BatchNorm of any kind by the attributes that PyTorch documents for it.

    Not by its class: BatchNorm1d and SyncBatchNorm have no public base in common, and Lightning's
    `sync_batchnorm` hands back a class of its own after training. All have the attributes of a BatchNorm1d.
    """
    if isinstance(module, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d):
        return False  # the same attributes, but each example is normalised by itself
    return all(hasattr(module, name) for name in ("running_mean", "running_var", "num_features", "eps"))
