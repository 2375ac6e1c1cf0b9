import math

import pytest
import torch

from makemore_pl.studies.ngrams import ngram_nll, ngram_probabilities

# Two names over "ab", block size 2: "ab" and "b"; ids: boundary 0, a 1, b 2.
CONTEXTS = torch.tensor([[0, 0], [0, 1], [1, 2], [0, 0], [0, 2]])
TARGETS = torch.tensor([1, 2, 0, 2, 0])
EXAMPLES = (CONTEXTS, TARGETS)


def test_probabilities_by_hand() -> None:
    unigrams = ngram_probabilities(EXAMPLES, 0, 3, smoothing=0)
    assert unigrams.tolist() == [[0.4, 0.2, 0.4]]
    bigrams = ngram_probabilities(EXAMPLES, 1, 3, smoothing=1)
    # After the boundary: a and b once each; after a: b; after b: the end, twice.
    expected = [[1 / 5, 2 / 5, 2 / 5], [1 / 4, 1 / 4, 2 / 4], [3 / 5, 1 / 5, 1 / 5]]
    assert torch.allclose(bigrams, torch.tensor(expected, dtype=torch.float64))
    trigrams = ngram_probabilities(EXAMPLES, 2, 3)
    assert trigrams.shape == (9, 3)
    assert trigrams[0 * 3 + 1].tolist() == [1 / 4, 1 / 4, 2 / 4]  # after the boundary and a
    assert trigrams[2 * 3 + 1].tolist() == [1 / 3] * 3  # never seen


def test_nll_by_hand() -> None:
    # Without smoothing, a unigram model's NLL on its own examples is the entropy of the characters.
    entropy = -(2 * 0.4 * math.log(0.4) + 0.2 * math.log(0.2))
    assert ngram_nll(ngram_probabilities(EXAMPLES, 0, 3, smoothing=0), EXAMPLES) == pytest.approx(entropy)
    bigrams = ngram_probabilities(EXAMPLES, 1, 3)
    expected = -(2 * math.log(2 / 5) + math.log(2 / 4) + 2 * math.log(3 / 5)) / 5
    assert ngram_nll(bigrams, EXAMPLES) == pytest.approx(expected)
    assert (
        ngram_nll(ngram_probabilities(EXAMPLES, 1, 3, smoothing=0), (CONTEXTS[:1], torch.tensor([0])))
        == math.inf
    )
