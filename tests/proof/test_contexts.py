import pytest

from makemore_pl.proof.contexts import ContextSet


@pytest.mark.parametrize(
    ("vocab_size", "n_weights", "expected"),
    [(27, 12_097, 1_000_000), (27, 1 << 20, 1_000_000), (27, 1 << 22, 1 << 18), (1 << 10, 1, 1 << 18)],
)
def test_random_contexts_are_fewer_where_each_takes_long(
    vocab_size: int, n_weights: int, expected: int
) -> None:
    contexts = ContextSet(vocab_size, 8, n_weights=n_weights)
    assert contexts.n_random == expected
    assert len(contexts) == expected == sum(len(chunk) for chunk in contexts.chunks())
