"""The NLL of each label's names."""

import torch
from torch import Tensor
from torchmetrics import Metric

from makemore_pl.data.batch import Batch


class LabelNLL(Metric):
    """NLL of each label's names, in nats per character: sums over all batches and ranks, divided once.

    Args:
        n_labels: L.
        first_id: of the labels; they stand in column 0 of the contexts.
    """

    nll: Tensor
    n_examples: Tensor

    def __init__(self, n_labels: int, first_id: int) -> None:
        super().__init__()
        self.first_id = first_id
        for name in ("nll", "n_examples"):
            self.add_state(name, torch.zeros(n_labels, dtype=torch.float64), "sum")

    def update(self, batch: Batch, log_probs: Tensor) -> None:
        """Add the examples of a batch; log_probs (B, V) are those of its contexts."""
        labels = batch.contexts[batch.rows, 0] - self.first_id  # (P,)
        weights = batch.weights.double()
        self.nll.index_add_(0, labels, -log_probs[batch.rows, batch.targets] * weights)
        self.n_examples.index_add_(0, labels, weights)

    def compute(self) -> Tensor:
        """float64 (L,); NaN for a label without examples."""
        return self.nll / self.n_examples
