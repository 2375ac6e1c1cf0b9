"""The limit: where it comes from, what it refuses, and a process that is held to it by the system."""

import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT, RunCommand, in_a_process

from makemore_pl import Sampler, memory
from makemore_pl.errors import MemoryLimitError, RequestError
from makemore_pl.export.export import expect_exportable, export_checkpoint
from makemore_pl.memory import VARIABLE, in_words, memory_limit, require_memory
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.runtime.engines import GraphSampler


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("100", 100), ("5K", 5 << 10), ("1.5 gib", 3 << 29), ("2MB", 2 << 20), ("1T", 1 << 40)],
)
def test_limit_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, n_bytes: int) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert memory_limit() == n_bytes
    require_memory(n_bytes, "just fits")
    with pytest.raises(MemoryLimitError, match=r"does not = .*; MAKEMORE_MAX_MEMORY=16G, say"):
        require_memory(n_bytes + 1, "does not")


@pytest.mark.parametrize("text", ["lots", "-1", "0", "1e9", "nan", "9" * 400, "4 G B"])
def test_a_limit_that_is_no_size(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(RequestError, match="MAKEMORE_MAX_MEMORY"):
        require_memory(1, "anything")


MACHINE = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8388608 kB\n"}
GROUPS = {
    "/proc/self/cgroup": "4:memory:/job\n0::/job/step\n",
    "/sys/fs/cgroup/job/memory.max": f"{2 << 30}\n",
    "/sys/fs/cgroup/job/step/memory.max": "max\n",
}


@pytest.mark.parametrize(
    ("files", "available"), [(MACHINE, 8 << 30), (MACHINE | GROUPS, 2 << 30), ({}, 1 << 40)]
)
def test_default_limit_is_three_quarters_of_what_is_available(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], available: int
) -> None:
    def read(path: Path, encoding: str) -> str:
        if str(path) not in files:
            raise FileNotFoundError
        return files[str(path)]

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(memory, "_available", memory._available.__wrapped__)  # without its cache
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 1 << 20)  # 1 TiB where the kernel says nothing
    assert memory_limit() == available * 3 // 4


def test_sizes_in_words() -> None:
    sizes = [in_words(n) for n in (5, 1023, 1024, 1536, 3 << 30, 1 << 70)]
    assert sizes == ["5 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "3.0 GiB", "1,048,576.0 PiB"]


def test_a_list_of_names_is_estimated_and_a_stream_is_not(run_folder: Path) -> None:
    sampler = Sampler(run_folder)
    with pytest.raises(MemoryLimitError, match="1,000,000,000,000 names of about 128 bytes"):
        sampler.sample(10**12)
    assert next(sampler.stream(10**12, seed=1)).names[:5] == sampler.sample(5, seed=1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's data against a limit")
def test_the_system_refuses_memory_past_the_cap() -> None:
    code = (
        "import numpy as np\n"
        "from makemore_pl.memory import memory_cap\n"
        "with memory_cap():\n"
        "    np.ones(1 << 20)\n"
        "    try: np.ones(1 << 26)\n"
        "    except MemoryError: print('refused')\n"
        "print(len(np.ones(1 << 26)))\n"
    )
    environment = {VARIABLE: "256M", "PATH": ""}
    done = in_a_process(sys.executable, "-c", code, env=environment, cwd=ROOT)
    assert done.out.split() == ["refused", str(1 << 26)], done.err


def test_proof_and_file_are_estimated(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"268,435,457 parameters × 4 bytes = 1\.0 GiB"):
        expect_exportable(_Sized(268_435_457))  # type: ignore[arg-type]
    monkeypatch.setenv(VARIABLE, "700K")
    with pytest.raises(MemoryLimitError, match="parameters × 60 bytes"):
        export_checkpoint(run_folder / "best.ckpt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


class _Sized:
    """A network of a given size, without its weights."""

    def __init__(self, n_parameters: int) -> None:
        self.n_parameters = n_parameters


def test_fit_refuses_with_the_arithmetic(makemore: RunCommand, short_list: Path, cwd: Path) -> None:
    """More than 10^9 of something, and none of it taken."""
    for option, arithmetic in (
        ("--model.n_hidden", "weights × 8 bytes"),
        ("--model.n_layers", "weights × 8 bytes"),
        ("--data.block_size", "weights × 8 bytes"),
        ("--trainer.devices", "1000000000 processes × 300.0 MiB"),
    ):
        result = makemore("fit", "--data.path", short_list, option, 10**9).fails_with(arithmetic)
        assert "MAKEMORE_MAX_MEMORY" in result.err
    assert list(cwd.iterdir()) == []


def test_refused_memory_is_one_line(
    makemore: RunCommand, run_folder: Path, short_list: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of Python and of PyTorch, whose error has no type of its own on the CPU."""

    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(GraphSampler, "generate", fail)
    monkeypatch.setattr(BatchNormMLP, "forward", lambda *args: torch.empty(1 << 60))
    for args in (["sample", run_folder], ["test", "--ckpt_path", run_folder / "best.ckpt"]):
        makemore(*args).fails_with("out of memory; at most ")
