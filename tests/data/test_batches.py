import gc
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.data import batches as batches_module
from makemore_pl.data.batch import Batch
from makemore_pl.data.batches import BatchLoader, mixed_seed, windows
from makemore_pl.data.corpus import encode_names
from makemore_pl.data.training_loader import TrainingLoader
from makemore_pl.vocabulary import Vocabulary


def loader(n: int, batch_size: int, **options: int) -> BatchLoader:
    """Over one long name whose ids are 1 … n-1, and its boundary: every example can be told by its target."""
    return BatchLoader(torch.arange(1, n + 1, dtype=torch.int32) % n, 1, batch_size, **options)


def targets_of(batches: Iterable[Batch]) -> list[int]:
    return [target for batch in batches for target in batch.targets.tolist()]


def test_a_batch_of_plain_examples() -> None:
    """F.cross_entropy is the oracle."""
    generator = torch.Generator().manual_seed(1)
    logits, targets = torch.randn(9, 5, generator=generator), torch.arange(9) % 5
    batch = Batch.of_examples(torch.arange(18).reshape(9, 2), targets)
    assert batch.nll(logits.log_softmax(dim=1)).item() == pytest.approx(
        F.cross_entropy(logits, targets, reduction="sum").item(), rel=1e-6
    )
    assert (len(batch), batch.mean_weight, batch.contexts[3].tolist()) == (9, 9, [6, 7])


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches as in a list of many millions, in one of a thousand."""
    monkeypatch.setattr(batches_module, "STRETCH", 100)


def test_windows_of_more_characters_than_a_byte_holds() -> None:
    many = "".join(chr(0x4E00 + i) for i in range(300))
    vocabulary, stream = encode_names([[many, "一二"]])
    found = windows(torch.from_numpy(stream), torch.arange(len(stream)), 2)
    expected = windows_one_by_one([many, "一二"], vocabulary, 2)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


def windows_one_by_one(
    names: list[str], vocabulary: Vocabulary, block_size: int
) -> list[tuple[list[int], int]]:
    """The lectures' loop."""
    examples = []
    for name in names:
        context = [0] * block_size
        for token in [*vocabulary.encode(name).tolist(), 0]:
            examples.append((context, token))
            context = [*context[1:], token]
    return examples


@given(st.lists(st.text("abcxyz.é", min_size=1, max_size=9), min_size=1, max_size=12), st.integers(1, 10))
def test_windows_are_those_of_the_loop(names: list[str], block_size: int) -> None:
    vocabulary, stream = encode_names([names])
    contexts, targets = windows(torch.from_numpy(stream), torch.arange(len(stream)), block_size)
    expected = windows_one_by_one(names, vocabulary, block_size)
    assert contexts.tolist() == [context for context, _ in expected]
    assert targets.tolist() == [target for _, target in expected]


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (9, 3), (1, 5), (129, 128), (1000, 64)])
def test_every_example_once_in_batches_as_equal_as_can_be(n: int, batch_size: int) -> None:
    batches = list(loader(n, batch_size, seed=1))
    sizes = [len(batch) for batch in batches]
    assert len(batches) == len(loader(n, batch_size))
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(targets_of(batches)) == list(range(n))
    for batch in batches:
        assert torch.equal(batch.contexts[batch.rows, 0], (batch.targets - 1) % n)
        assert batch.weights.tolist() == [1.0] * len(batch)
    assert sum(batch.mean_weight for batch in batches) == pytest.approx(n)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("n", [6, 99, 100, 1000, 1001])
def test_every_example_once_when_gathered_bit_by_bit(n: int) -> None:
    targets = targets_of(loader(n, 9, seed=1))
    assert sorted(targets) == list(range(n))
    assert targets != sorted(targets)
    assert sum(batch.mean_weight for batch in loader(n, 9)) == pytest.approx(n)
    if n > 200:  # stretches are not in the list's order
        stretches = [sorted(targets[i : i + 100])[0] for i in range(0, 1000, 100)]
        assert stretches != sorted(stretches)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_each_global_batch(world_size: int) -> None:
    ranks = [list(loader(1000, 64, seed=7, rank=r, world_size=world_size)) for r in range(world_size)]
    whole = list(loader(1000, 64, seed=7))
    for step, expected in enumerate(whole):
        together = [batches[step] for batches in ranks]
        assert torch.equal(torch.cat([batch.contexts for batch in together]), expected.contexts)
        assert targets_of(together) == expected.targets.tolist()
        assert sum(batch.mean_weight for batch in together) == pytest.approx(expected.mean_weight)
    sizes = [len(batch) for batches in ranks for batch in batches]
    assert loader(1000, 64, seed=7, world_size=world_size).smallest == min(sizes)


def test_equal_contexts_are_merged_unless_told_otherwise() -> None:
    stream = torch.tensor([1, 0] * 5)
    [merged], [plain] = BatchLoader(stream, 1, 20), BatchLoader(stream, 1, 20, merged=False)
    assert (len(merged), len(plain)) == (2, 10)


def test_batches_lie_where_they_are_wanted() -> None:
    for device in (torch.device("meta"), None):
        [batch] = BatchLoader(torch.tensor([1, 2, 0]), 1, 5, device=device)
        for part in (batch.contexts, batch.rows, batch.targets, batch.weights):
            assert part.device == (device or torch.device("cpu"))


@given(st.integers(0, (1 << 63) - 1), st.lists(st.integers(0, 1 << 40), max_size=4))
def test_seeds_are_mixed_within_63_bits(seed: int, numbers: list[int]) -> None:
    """PyTorch takes no more; a neighbour in any number is another seed."""
    mixed = mixed_seed(seed, *numbers)
    assert 0 <= mixed < 1 << 63
    for i in range(len(numbers)):
        neighbour = [number + (place == i) for place, number in enumerate(numbers)]
        assert mixed_seed(seed, *neighbour) != mixed


def test_passes_differ_and_come_back() -> None:
    batches = loader(100, 100, seed=3)
    first, second = targets_of(batches.one_pass(0)), targets_of(batches.one_pass(1))
    assert first != second
    assert first == targets_of(batches) == targets_of(batches.one_pass(0))
    assert first != targets_of(loader(100, 100, seed=4))


def test_orders_are_all_equally_likely() -> None:
    """Each of the 24 orders of 4 examples in 4,800 passes; by chance it fails once in 70,000 times."""
    batches = loader(4, 4, seed=0)
    counts = Counter(tuple(targets_of(batches.one_pass(number))) for number in range(4800))
    assert len(counts) == 24
    assert max(abs(count - 200) for count in counts.values()) < 5 * (200 * 23 / 24) ** 0.5


def test_without_seed_the_order_of_the_data_is_kept() -> None:
    assert targets_of(loader(10, 3)) == [*range(1, 10), 0]


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("position", [0, 1, 11, 25, 119, 120, 131])
@pytest.mark.parametrize("batches_per_pass", [None, 50])
def test_training_resumes_from_its_position_alone(position: int, batches_per_pass: int | None) -> None:
    def batches_from(position: int) -> Iterator[Batch]:
        training = TrainingLoader(loader(1000, 9, seed=5), position, batches_per_pass)
        while True:  # Lightning's epochs
            yield from training

    whole = list(islice(batches_from(0), 300))
    resumed = islice(batches_from(position), 300 - position)
    assert targets_of(resumed) == targets_of(whole[position:])


@pytest.mark.usefixtures("small_steps")
def test_a_pass_that_is_not_finished_may_be_collected_in_its_own_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pytest reports the exception that this would end in."""
    batches, dropped, collected = loader(1000, 9, seed=5), threading.Event(), threading.Event()
    shuffled = batches._shuffled

    def collect_first(number: int, stretch: int) -> object:
        if threading.current_thread() is not threading.main_thread():
            dropped.wait(60)
            gc.collect()
            collected.set()
        return shuffled(number, stretch)

    monkeypatch.setattr(batches, "_shuffled", collect_first)
    cycle: list[object] = [batches.one_pass(0)]
    next(cycle[0])  # type: ignore[call-overload]
    cycle.append(cycle)
    del cycle
    dropped.set()
    assert collected.wait(60)


def test_epochs_end_where_they_should_and_begin_where_the_one_before_ended() -> None:
    batches = TrainingLoader(loader(100, 10, seed=5), 3, None, lambda position: position - position % 4 + 4)
    with pytest.raises(TypeError, match="different lengths"):
        len(batches)
    epochs = [list(batches) for _ in range(4)]
    assert [len(epoch) for epoch in epochs] == [1, 4, 4, 4]
    assert batches.position == 16
    whole = [*loader(100, 10, seed=5).one_pass(0), *loader(100, 10, seed=5).one_pass(1)]
    assert targets_of(batch for epoch in epochs for batch in epoch) == targets_of(whole[3:16])
    from_the_start = TrainingLoader(loader(100, 10, seed=5))
    assert len(from_the_start) == 10
    assert targets_of(from_the_start) == targets_of(whole[:10])
