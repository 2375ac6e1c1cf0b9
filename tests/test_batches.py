import pytest
import torch

from makemore_pl.training.batches import BatchLoader


def loader(n: int, batch_size: int, **options: int) -> BatchLoader:
    numbers = torch.arange(n, dtype=torch.int32)
    return BatchLoader(numbers[:, None], numbers, batch_size, **options)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (9, 3), (1, 5), (129, 128), (1000, 64)])
def test_every_example_once_in_batches_as_equal_as_can_be(n: int, batch_size: int) -> None:
    batches = list(loader(n, batch_size, seed=1))
    sizes = [len(targets) for _, targets in batches]
    assert len(batches) == len(loader(n, batch_size))
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(torch.cat([targets for _, targets in batches]).tolist()) == list(range(n))
    assert all(torch.equal(contexts[:, 0], targets) for contexts, targets in batches)
    assert batches[0][0].dtype == torch.int64


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_each_global_batch(world_size: int) -> None:
    ranks = [list(loader(1000, 64, seed=7, rank=r, world_size=world_size)) for r in range(world_size)]
    whole = list(loader(1000, 64, seed=7))
    for step, (_, expected) in enumerate(whole):
        together = torch.cat([batches[step][1] for batches in ranks])
        assert torch.equal(together, expected)


def test_epochs_differ_and_come_back() -> None:
    batches = loader(100, 100, seed=3)
    first = next(iter(batches))[1]
    batches.sampler.set_epoch(1)
    second = next(iter(batches))[1]
    batches.sampler.set_epoch(0)
    assert not torch.equal(first, second)
    assert torch.equal(first, next(iter(batches))[1])
    assert not torch.equal(first, next(iter(loader(100, 100, seed=4)))[1])


def test_without_seed_the_order_of_the_data_is_kept() -> None:
    assert torch.cat([targets for _, targets in loader(10, 3)]).tolist() == list(range(10))
