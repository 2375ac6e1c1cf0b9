"""NLL by label: the same however examples are merged, batched and shared among ranks."""

import torch

from makemore_pl.data.batch import Batch
from makemore_pl.data.merging import merge
from makemore_pl.model.label_nll import LabelNLL
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP

V, L = 5, 3


def examples(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = V + torch.randint(L - 1, (n, 1), generator=generator)  # none of the last label
    characters = torch.randint(V, (n, 2), generator=generator)
    return torch.cat([labels, characters], dim=1), torch.randint(V, (n,), generator=generator)


def test_however_they_are_merged_batched_and_shared() -> None:
    contexts, targets = examples()
    net = BatchNormMLP(V, 2, n_labels=L, init_seed=1, output_gain=1.0).double().eval()
    log_probs = net(contexts).log_softmax(dim=1)
    losses = -log_probs[torch.arange(len(targets)), targets]
    expected = [losses[contexts[:, 0] == V + label].mean().item() for label in range(L - 1)]
    ranks = [LabelNLL(L, V) for _ in range(2)]
    for rank, part in enumerate((slice(0, 70), slice(70, None))):
        own = merge(contexts[part], targets[part])
        rows = torch.arange(len(own)).repeat_interleave(
            own.ends.diff(prepend=torch.zeros(1, dtype=torch.long))
        )
        batch = Batch(own.contexts, rows, own.targets, own.weights, 1.0)
        ranks[rank].update(batch, net(batch.contexts).log_softmax(dim=1))
    total, other = ranks
    total.nll, total.n_examples = total.nll + other.nll, total.n_examples + other.n_examples
    found = total.compute().tolist()
    assert torch.allclose(torch.tensor(found[: L - 1]), torch.tensor(expected), atol=1e-12)
    assert found[L - 1] != found[L - 1]  # no example has that label


def test_a_model_without_labels_is_as_it_was() -> None:
    assert BatchNormMLP(27, 3).n_parameters == 20_875
    assert "n_labels" not in LitBatchNormMLP(27, 3).hparams
    labelled = BatchNormMLP(27, 3, n_labels=2)
    assert labelled.n_parameters == 20_875 + 2 * 24 + 24 * 200  # two rows, and a position of the first Linear
