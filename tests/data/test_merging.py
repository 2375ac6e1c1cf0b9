from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.data.batches import BatchLoader, windows
from makemore_pl.data.corpus import encode_names
from makemore_pl.data.merging import merge, unmerged
from makemore_pl.model.network import BatchNormMLP

NAMES = st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=30)


def examples(names: list[str], block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    _, stream = encode_names([names])
    return windows(torch.from_numpy(stream), torch.arange(len(stream)), block_size)


@given(NAMES, st.integers(1, 4), st.integers(1, 40))
def test_every_example_is_counted_once(names: list[str], block_size: int, most: int) -> None:
    contexts, targets = examples(names, block_size)
    expected = Counter((*c, t) for c, t in zip(contexts.tolist(), targets.tolist(), strict=True))
    merged = merge(contexts, targets, most)
    found: Counter[tuple[int, ...]] = Counter()
    starts = [0, *merged.ends.tolist()]
    for context, start, end in zip(merged.contexts.tolist(), starts, starts[1:], strict=False):
        assert merged.weights[start:end].sum() <= most + 1e-4
        for target, weight in zip(merged.targets[start:end], merged.weights[start:end], strict=True):
            found[(*context, int(target))] += float(weight)  # type: ignore[assignment]
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key]) for key in expected)


def test_contexts_too_long_for_a_number_of_64_bits_are_told_apart() -> None:
    contexts = torch.zeros((4, 60), dtype=torch.uint8)
    contexts[1:3, 0] = 3  # 3 · 4^59 is a multiple of 2^64
    merged = merge(contexts, torch.tensor([3, 3, 3, 2], dtype=torch.uint8))
    assert merged.contexts[:, 0].tolist() == [0, 3]
    assert merged.ends.tolist() == [2, 3]
    assert merged.targets.tolist() == [2, 3, 3]
    assert merged.weights.tolist() == [1, 1, 2]


def test_a_context_and_its_target_have_a_number_of_64_bits_together() -> None:
    """3^39 contexts fit; with 3 targets of each they do not, and one context would be taken for two."""
    contexts = torch.full((3, 39), 2, dtype=torch.uint8)
    contexts[2, -1] = 1
    merged = merge(contexts, torch.tensor([0, 1, 2], dtype=torch.uint8))
    assert merged.contexts[:, -1].tolist() == [1, 2]
    assert merged.ends.tolist() == [1, 3]
    assert merged.targets.tolist() == [2, 0, 1]


def test_ids_that_stand_in_contexts_alone_or_in_targets_alone() -> None:
    for contexts, targets in (([[0], [1]], [5, 3]), ([[0, 5], [1, 3]], [1, 1])):
        merged = merge(torch.tensor(contexts), torch.tensor(targets))
        assert merged.contexts.tolist() == contexts
        assert merged.targets.tolist() == targets


def test_fewest_rows() -> None:
    contexts, targets = examples(["ab"] * 10 + ["aa"], 2)
    assert merge(contexts, targets, most=100).contexts.tolist() == [[0, 0], [0, 1], [1, 1], [1, 2]]
    assert len(merge(contexts, targets, most=4)) == 3 + 3 + 1 + 3
    rows = unmerged(contexts, targets)
    assert rows.contexts is contexts
    assert rows.ends.tolist() == list(range(1, len(targets) + 1))
    assert rows.targets.tolist() == targets.tolist()
    assert rows.weights.tolist() == [1.0] * len(targets)
    weights = torch.arange(len(targets), dtype=torch.float64)
    rows = unmerged(contexts, targets, weights)
    assert (rows.weights.dtype, rows.weights.tolist()) == (torch.float32, weights.tolist())


@pytest.mark.parametrize(("n", "rows"), [(32, 1), (33, 2), (64, 2), (65, 3)])
def test_a_row_stands_for_32_examples_at_most(n: int, rows: int) -> None:
    merged = merge(torch.ones((n, 3), dtype=torch.uint8), torch.ones(n, dtype=torch.uint8))
    assert merged.weights.tolist() == pytest.approx([n / rows] * rows)


@given(NAMES, st.randoms())
def test_taken_rows_keep_their_targets(names: list[str], random: object) -> None:
    merged = merge(*examples(names, 2), most=3)
    order = torch.randperm(len(merged), generator=torch.Generator().manual_seed(len(names)))
    taken = merged.take(order)
    starts, taken_starts = [0, *merged.ends.tolist()], [0, *taken.ends.tolist()]
    for new, old in enumerate(order.tolist()):
        assert torch.equal(taken.contexts[new], merged.contexts[old])
        rows = slice(taken_starts[new], taken_starts[new + 1]), slice(starts[old], starts[old + 1])
        assert torch.equal(taken.targets[rows[0]], merged.targets[rows[1]])
        assert torch.equal(taken.weights[rows[0]], merged.weights[rows[1]])


@pytest.mark.parametrize("batch_size", [1000, 7])
def test_loss_and_gradient_are_those_of_the_examples(batch_size: int) -> None:
    """Without BatchNorm, summed over an epoch; F.cross_entropy is the oracle."""
    _, stream = encode_names([["anna", "bo", "ana", "an", "bob", "anna"] * 20])
    tokens = torch.from_numpy(stream)
    model = BatchNormMLP(5, 3, n_hidden=8, batch_norm=False).double()
    contexts, targets = windows(tokens, torch.arange(len(tokens)), 3)
    expected = F.cross_entropy(model(contexts.long()), targets.long(), reduction="sum")
    gradients = torch.autograd.grad(expected, list(model.parameters()))

    loss = sum(
        batch.nll(model(batch.contexts).log_softmax(dim=1))
        for batch in BatchLoader(tokens, 3, batch_size, seed=1)
    )
    assert isinstance(loss, torch.Tensor)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)  # weights are float32
    for found, gradient in zip(torch.autograd.grad(loss, list(model.parameters())), gradients, strict=True):
        assert torch.allclose(found, gradient, rtol=1e-5, atol=1e-5)
