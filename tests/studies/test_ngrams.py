"""Counting: by hand on two names, as a distribution, and on the lectures' list."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import random_batch

from makemore_pl.data.batches import Windows
from makemore_pl.studies.ngrams import counting_nll, kneser_ney
from makemore_pl.studies.recipes import lecture_examples


def test_unigrams_are_shares() -> None:
    """But for the little that is taken from every count and given to all alike."""
    targets = torch.arange(3).repeat_interleave(torch.tensor([100, 300, 600]))
    train: Windows = torch.zeros(1_000, 2, dtype=torch.int64), targets
    probabilities = kneser_ney(train, (torch.ones(3, 2, dtype=torch.int64), torch.arange(3)), 0, 3)
    assert probabilities == pytest.approx([0.1, 0.3, 0.6], abs=0.001)
    assert counting_nll(train, train, 0, 3) == pytest.approx(
        -sum(p * math.log(p) for p in (0.1, 0.3, 0.6)), abs=1e-4
    )


@pytest.mark.parametrize("n_context", [0, 1, 2, 3])
def test_kneser_ney_is_a_distribution_after_any_context(n_context: int) -> None:
    contexts, _ = random_batch(100)  # most of them not in training
    train = random_batch(3_000)
    every = contexts.repeat_interleave(27, dim=0), torch.arange(27).repeat(100)
    found = kneser_ney((train[0] % 9, train[1]), every, n_context, 27).reshape(100, 27)
    assert found.sum(axis=1) == pytest.approx(np.ones(100))
    assert found.min() > 0


def test_kneser_ney_is_that_of_chen_and_goodman() -> None:
    """Told again with dictionaries, for bigrams: where shares fall short, and what shorter contexts count."""
    generator = torch.Generator().manual_seed(1)
    skewed = (20 * torch.rand(400, 2, generator=generator) ** 3).long()
    train: Windows = skewed[:, :1], skewed[:, 1]
    pairs = Counter(zip(skewed[:, 0].tolist(), skewed[:, 1].tolist(), strict=True))
    n1, n2, n3, n4 = (sum(count == i for count in pairs.values()) for i in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    discounts = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    before = Counter(target for _, target in pairs)  # in how many different places, not how often
    assert not all(sum(count == i for count in before.values()) for i in (1, 2, 3))  # so 0.75 is taken
    for context, target in ((0, 0), (0, 19), (7, 1), (19, 3)):
        after = {pair[1]: count for pair, count in pairs.items() if pair[0] == context}
        unigram = (max(before[target] - 0.75, 0) + 0.75 * len(before) / 20) / sum(before.values())
        count, left = after.get(target, 0), sum(discounts[min(x, 3)] for x in after.values())
        expected = (count - discounts[min(count, 3)] + left * unigram) / sum(after.values())
        found = kneser_ney(train, (torch.tensor([[context]]), torch.tensor([target])), 1, 20)
        assert found == pytest.approx([expected])


def test_kneser_ney_on_the_lectures_list(makemore_names: list[str]) -> None:
    examples = lecture_examples()
    nll = [counting_nll(examples["train"], examples[split], 3, 27) for split in ("dev", "test")]
    assert nll == pytest.approx([2.0560, 2.0575], abs=5e-5)


def test_what_was_never_counted_keeps_a_probability() -> None:
    """Also where the formula takes nothing from counts of three and more, and a context has no others."""
    counts = {(0, target): 4 for target in range(1, 21)}
    counts |= {(1, target): 1 for target in range(10)} | {(1, 10): 2, (1, 11): 3}
    pairs = torch.tensor([pair for pair, count in counts.items() for _ in range(count)])
    every: Windows = torch.zeros(30, 1, dtype=torch.int64), torch.arange(30)
    found = kneser_ney((pairs[:, :1], pairs[:, 1]), every, 1, 30)
    assert found.min() > 0
    assert found.sum() == pytest.approx(1)
