"""The limit: where it comes from, what it refuses, and a process that is held to it by the system."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, RunCommand, assert_one_line_error

from makemore_pl import Sampler, memory
from makemore_pl.errors import MemoryLimitError, RequestError
from makemore_pl.memory import VARIABLE, in_words, memory_limit, require_memory
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
        "    try: np.ones(1 << 27)\n"
        "    except MemoryError: print('refused')\n"
        "print(len(np.ones(1 << 27)))\n"
    )
    environment = {VARIABLE: "256M", "PATH": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.stdout.split() == ["refused", str(1 << 27)], done.stderr


def test_out_of_memory_is_one_line(
    makemore: RunCommand, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(GraphSampler, "generate", fail)
    result = makemore("sample", run_folder)
    assert result.code == 2
    assert_one_line_error(result.err, "out of memory; at most ")
