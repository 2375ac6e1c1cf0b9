from pathlib import Path

import lightning as L
import pytest
import torch
from helpers import QUICK, RunCommand, trainer
from torch import Tensor, nn

from makemore_pl.data.batch import Batch
from makemore_pl.data.batches import BatchLoader
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import RequestError
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.model.recalibration import RecalibrateBatchNorm, recalibrate
from makemore_pl.runs.checkpoint import read_checkpoint

DEEP = {"n_layers": 3, "norm_output": True, "dropout": 0.3}


@pytest.fixture
def data(list_of_all_letters: Path) -> NamesDataModule:
    return NamesDataModule(str(list_of_all_letters), batch_size=128, merge=False)


def statistics_over(data: NamesDataModule, model: BatchNormMLP) -> list[Tensor]:
    """Mean and variance of each BatchNorm's input over the training set in one batch, in float64."""
    x: Tensor = data.examples("train")[0]
    found = []
    for layer in model.layers:
        layer = layer.eval().double()
        if isinstance(layer, nn.BatchNorm1d):
            found += [x.mean(dim=0), x.var(dim=0)]
            x = (x - found[-2]) / (found[-1] + layer.eps).sqrt() * layer.weight + layer.bias
        else:
            x = layer(x)
    return [statistic.detach() for statistic in found]


def running_statistics(model: BatchNormMLP) -> list[Tensor]:
    norms = [layer for layer in model.layers if isinstance(layer, nn.BatchNorm1d)]
    return [statistic for norm in norms for statistic in (norm.running_mean, norm.running_var)]  # type: ignore[misc]


def fitted(data: NamesDataModule, *callbacks: L.Callback, **network: object) -> LitBatchNormMLP:
    L.seed_everything(3)
    module = LitBatchNormMLP(data.vocab_size, data.block_size, n_hidden=20, **network)  # type: ignore[arg-type]
    trainer(max_epochs=2, callbacks=list(callbacks)).fit(module, datamodule=data)
    return module


@pytest.mark.parametrize("network", [{}, DEEP], ids=["one layer", "deep, with Dropout"])
def test_statistics_are_those_of_the_whole_training_set(
    data: NamesDataModule, network: dict[str, object]
) -> None:
    recalibrated = fitted(data, RecalibrateBatchNorm(), **network)
    expected = statistics_over(data, recalibrated.net)
    for found, statistic in zip(running_statistics(recalibrated.net), expected, strict=True):
        torch.testing.assert_close(found, statistic, rtol=1e-5, atol=1e-6, check_dtype=False)

    # The same check finds that running averages differ.
    ran = fitted(data, **network)
    for found, statistic in zip(running_statistics(ran.net), statistics_over(data, ran.net), strict=True):
        assert (found - statistic).abs().max() > 1e-3


def test_one_rank_alone_may_keep_its_running_averages(data: NamesDataModule) -> None:
    ran, kept = fitted(data), fitted(data, RecalibrateBatchNorm(on_one_rank=False))
    assert all(map(torch.equal, running_statistics(ran.net), running_statistics(kept.net)))


def test_training_is_not_disturbed(data: NamesDataModule) -> None:
    """The weights are the same, bit for bit, and so are the random numbers that follow."""
    without = fitted(data, **DEEP)
    next_number = torch.rand(1)
    with_it = fitted(data, RecalibrateBatchNorm(), **DEEP)
    assert torch.equal(torch.rand(1), next_number)
    for (name, expected), found in zip(without.named_parameters(), with_it.parameters(), strict=True):
        assert torch.equal(found, expected), name


def test_ranks_together_find_what_one_finds(data: NamesDataModule) -> None:
    """Three ranks each take their share of every batch, and add up their sums."""
    stream = torch.from_numpy(data.corpus.streams["train"])
    alone, shared = (BatchNormMLP(data.vocab_size, 3, n_hidden=20, init_seed=1) for _ in range(2))
    recalibrate(alone.layers, BatchLoader(stream, 3, 100))

    shares = [BatchLoader(stream, 3, 64, seed=7, rank=rank, world_size=3) for rank in range(3)]
    all_sums: list[Tensor] = []
    for share in shares[1:]:
        recalibrate(shared.layers, share, lambda sums: all_sums.append(sums) or sums)  # type: ignore[func-returns-value]
    recalibrate(shared.layers, shares[0], lambda sums: sums + sum(all_sums))
    for found, expected in zip(running_statistics(shared), running_statistics(alone), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_the_mode_of_the_layers_is_kept_and_no_batches_are_an_error() -> None:
    model = BatchNormMLP(5, 2).train()
    batches = BatchLoader(torch.tensor([1, 2, 0, 3, 1, 0, 4, 0]), block_size=2, batch_size=8)
    recalibrate(model.layers, batches)
    assert all(layer.training for layer in model.layers)
    recalibrate(model.eval().layers, batches)
    assert not any(layer.training for layer in model.layers)
    with pytest.raises(ValueError, match="no batches"):
        recalibrate(model.layers, [])


def test_layers_in_training_mode_are_recalibrated_as_in_evaluation(data: NamesDataModule) -> None:
    """Neither Dropout's noise nor a batch's own statistics get into the layers above."""
    batches = BatchLoader(torch.from_numpy(data.corpus.streams["train"]), 3, 100)
    training, evaluated = (
        BatchNormMLP(data.vocab_size, 3, n_hidden=20, init_seed=1, **DEEP)  # type: ignore[arg-type]
        for _ in range(2)
    )
    recalibrate(training.train().layers, batches)
    recalibrate(evaluated.eval().layers, batches)
    for found, expected in zip(running_statistics(training), running_statistics(evaluated), strict=True):
        assert torch.equal(found, expected)


def test_variances_are_unbiased_and_of_rows_far_from_zero() -> None:
    """Five rows: a biased variance would be a fifth smaller."""
    norm = nn.BatchNorm1d(2)
    rows = torch.tensor([[1000.1, -1.0], [1001.3, 3.0], [1002.6, 5.0], [1003.7, 0.0], [1009.2, 1.0]])
    contexts = torch.arange(5)[:, None]
    layers = nn.Sequential(nn.Embedding.from_pretrained(rows), nn.Flatten(), norm)
    batches = [Batch.of_examples(part, part[:, 0]) for part in contexts.split(2)]
    recalibrate(layers, batches)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, rows.mean(dim=0), rtol=1e-6, atol=0)
    torch.testing.assert_close(norm.running_var, rows.var(dim=0), rtol=1e-5, atol=0)


def test_a_fit_without_a_data_module_is_refused(data: NamesDataModule) -> None:
    module = LitBatchNormMLP(data.vocab_size, data.block_size)
    with pytest.raises(RequestError, match="NamesDataModule"):
        trainer(max_epochs=1, callbacks=[RecalibrateBatchNorm()]).fit(
            module, data.training_pass(), data.val_dataloader()
        )


def test_validation_alone_changes_nothing(data: NamesDataModule) -> None:
    module = LitBatchNormMLP(data.vocab_size, data.block_size)
    before = [statistic.clone() for statistic in running_statistics(module.net)]
    trainer(callbacks=[RecalibrateBatchNorm()]).validate(module, datamodule=data, verbose=False)
    assert all(map(torch.equal, running_statistics(module.net), before))


def test_saved_checkpoints_hold_the_new_statistics(
    makemore: RunCommand,
    list_of_all_letters: Path,
    data: NamesDataModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data.batch_size", 256, "--data.merge", "false", "--recalibrate", "true")
    result = makemore(
        "fit", "--data.path", list_of_all_letters, "--export.enabled", "false", *options, *QUICK
    )
    assert result.code == 0, result.err
    for name in ("best", "last"):
        model = read_checkpoint(f"checkpoints/short/{name}.ckpt").load_model()
        found = [statistic.clone() for statistic in running_statistics(model)]
        for statistic, expected in zip(found, statistics_over(data, model), strict=True):
            torch.testing.assert_close(statistic, expected, rtol=1e-5, atol=1e-6, check_dtype=False)
