"""Estimates of the training half: what would take more than the limit is refused before it is taken."""

from pathlib import Path

import pytest
from helpers import RunCommand, assert_one_line_error

from makemore_pl.errors import MemoryLimitError, RequestError
from makemore_pl.export.export import expect_exportable, export_checkpoint
from makemore_pl.memory import VARIABLE
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.contexts import ContextSet


# Each of these asks for more than 10^9 of something; none may begin to take it.
@pytest.mark.parametrize(
    ("option", "arithmetic"),
    [
        ("--model.n_hidden", "weights × 8 bytes"),
        ("--model.n_embd", "weights × 8 bytes"),
        ("--model.n_layers", "weights × 8 bytes"),
        ("--data.block_size", "weights × 8 bytes"),
        ("--trainer.devices", "1000000000 processes × 300.0 MiB"),
    ],
)
def test_fit_refuses_with_the_arithmetic(
    makemore: RunCommand,
    short_list: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    arithmetic: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = makemore("fit", "--data.path", short_list, option, 10**9)
    assert result.code == 2
    assert_one_line_error(result.err, arithmetic)
    assert "MAKEMORE_MAX_MEMORY" in result.err
    assert list(tmp_path.iterdir()) == []


def test_proof_and_file_are_estimated(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"268,435,457 parameters × 4 bytes = 1\.0 GiB"):
        expect_exportable(_Sized(268_435_457))  # type: ignore[arg-type]
    monkeypatch.setenv(VARIABLE, "1M")
    with pytest.raises(MemoryLimitError, match="parameters × 60 bytes"):
        export_checkpoint(run_folder / "best.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


class _Sized:
    """A network of a given size, without its weights."""

    def __init__(self, n_parameters: int) -> None:
        self.n_parameters = n_parameters


def test_contexts_of_a_wide_network_come_in_small_chunks() -> None:
    wide = next(ContextSet(27, 3, widest=1 << 20).chunks())
    assert len(wide) == 16
    assert len(next(ContextSet(27, 3).chunks())) == 16_384


def test_pytorch_out_of_memory_is_one_line(
    makemore: RunCommand, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fail(*args: object) -> None:
        torch.empty(1 << 60)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(BatchNormMLP, "forward", fail)
    result = makemore("fit", "--data.path", short_list, "--trainer.accelerator", "cpu")
    assert result.code == 2
    assert_one_line_error(result.err, "out of memory; at most ")
    assert list(tmp_path.iterdir()) == []
