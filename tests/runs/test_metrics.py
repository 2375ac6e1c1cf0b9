"""The loggers of a run: what is written when, and by which process."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from makemore_pl.inspect.step_table import read_steps
from makemore_pl.runs import metrics
from makemore_pl.runs.metrics import MetricsLogger, RunTensorBoard, run_loggers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "mine"


def loggers_of(folder: Path, first_step: int = 0) -> tuple[MetricsLogger, RunTensorBoard]:
    file, board = run_loggers(folder, first_step)
    assert isinstance(file, MetricsLogger)
    assert isinstance(board, RunTensorBoard)
    return file, board


def files_of(folder: Path) -> set[str]:
    return {file.name.partition(".")[0] for file in folder.rglob("*") if file.is_file()}


def test_nothing_is_written_before_the_first_figures(folder: Path) -> None:
    """A run that cannot be resumed changes no file of the earlier one."""
    for logger in loggers_of(folder):
        logger.save()
        logger.log_hyperparams({"lr": 0.5})
        logger.save()
        assert not folder.exists()
    for logger in loggers_of(folder):
        logger.log_hyperparams({"lr": 0.5})
        logger.log_metrics({"loss": 2.5, "epoch": 4}, step=3)
        logger.save()
    assert read_steps(folder / "metrics.csv") == [(3, {"loss": 2.5})]
    assert (folder / "hparams.yaml").read_text() == "lr: 0.5\n"
    assert (folder / "tensorboard" / "hparams.yaml").read_text() == "lr: 0.5\n"
    assert files_of(folder) == {"metrics", "hparams", "events"}


@pytest.mark.parametrize("make", [MetricsLogger, lambda folder: run_loggers(folder, 0)[0]])
def test_a_run_that_starts_anew_replaces_an_earlier_ones_figures(
    folder: Path, make: Callable[[Path], Logger]
) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,loss\n0,9\n")
    logger = make(folder)
    logger.log_hyperparams({"lr": 0.5})
    logger.log_metrics({"loss": 2.5}, step=1)
    assert read_steps(folder / "metrics.csv") == [(1, {"loss": 2.5})]


def test_options_are_written_once(folder: Path) -> None:
    logger = MetricsLogger(folder)
    logger.log_hyperparams(Namespace(lr=0.5))
    logger.log_metrics({"loss": 2.5})
    (folder / "hparams.yaml").unlink()
    logger.log_metrics({"loss": 2.0}, step=1)
    assert not (folder / "hparams.yaml").exists()
    assert read_steps(folder / "metrics.csv") == [(0, {"loss": 2.5}), (1, {"loss": 2.0})]


def test_figures_without_options(folder: Path) -> None:
    for logger in loggers_of(folder):
        logger.log_metrics({"loss": 2.5}, step=1)
        logger.save()
    assert files_of(folder / "tensorboard") == {"events", "hparams"}  # TensorBoard's own, empty
    assert not (folder / "hparams.yaml").exists()


def test_an_epoch_alone_is_no_figure(folder: Path) -> None:
    MetricsLogger(folder).log_metrics({"epoch": 1}, step=7)
    assert not folder.exists()


def test_resuming_keeps_the_rows_before_its_first_step(folder: Path) -> None:
    for first_step in (0, 6):
        logger = MetricsLogger(folder, first_step)
        for step in (5, 6):
            logger.log_metrics({"loss": step + first_step}, step)
    assert read_steps(folder / "metrics.csv") == [
        (5, {"loss": 5.0}),
        (5, {"loss": 11.0}),
        (6, {"loss": 12.0}),
    ]
    _, board = loggers_of(folder, first_step=6)
    assert board._kwargs["purge_step"] == 6
    _, board = loggers_of(folder)
    assert board._kwargs["purge_step"] is None


def test_tensorboards_writer_is_made_when_the_run_has_begun(folder: Path) -> None:
    """Callbacks write figures of their own to it, perhaps before there is a loss."""
    _, board = loggers_of(folder)
    with pytest.raises(AttributeError, match="the run has not begun"):
        _ = board.experiment
    board.log_hyperparams({"lr": 0.5})
    assert not folder.exists()
    board.experiment.add_scalar("own", 1.0, 0)
    board.save()  # options without figures are kept for the first ones
    assert not (folder / "tensorboard" / "hparams.yaml").exists()
    _, another = loggers_of(folder / "another")
    another.log_metrics({"loss": 1.0}, 1)
    assert another.experiment is another.experiment


def test_without_tensorboard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    [logger] = run_loggers(folder, 0)
    assert isinstance(logger, MetricsLogger)


def test_one_process_of_many_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("damaged")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not metrics.is_rank_zero()
    loggers: list[Logger] = [MetricsLogger(folder, first_step=5), *run_loggers(folder, first_step=5)]
    for logger in loggers:
        logger.log_hyperparams({"lr": 0.5})
        logger.log_metrics({"loss": 2.5}, step=5)
        logger.save()
    assert files_of(folder) == {"metrics"}
    assert (folder / "metrics.csv").read_text() == "damaged"
    monkeypatch.delattr(rank_zero_only, "rank")  # not known yet: a single process
    assert metrics.is_rank_zero()


def test_names_of_a_run(folder: Path) -> None:
    logger = MetricsLogger(folder)
    assert (logger.name, logger.version, logger.log_dir) == ("mine", "", str(folder))
