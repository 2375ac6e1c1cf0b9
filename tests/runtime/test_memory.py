"""One limit for the memory of the whole program: where it comes from, and everything that it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, RunCommand, assert_one_line_error

from makemore_pl import Sampler, Scorer
from makemore_pl import memory as limits
from makemore_pl.errors import DataError, RequestError
from makemore_pl.export.export import expect_exportable, export_checkpoint
from makemore_pl.memory import MemoryLimitError, file_size, in_words, memory_limit, require_memory
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.contexts import ContextSet
from makemore_pl.runtime import engines, scorer


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("100", 100), ("5K", 5 << 10), ("1.5 gib", 3 << 29), ("2MB", 2 << 20), ("1T", 1 << 40)],
)
def test_limit_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, n_bytes: int) -> None:
    monkeypatch.setenv(limits.VARIABLE, text)
    assert memory_limit() == n_bytes
    require_memory(n_bytes, "just fits")
    with pytest.raises(MemoryLimitError, match="as MAKEMORE_MAX_MEMORY says"):
        require_memory(n_bytes + 1, "does not")


@pytest.mark.parametrize("text", ["lots", "-1", "0", "1e9", "nan", "9" * 400, "4 G B"])
def test_a_limit_that_is_no_size(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(limits.VARIABLE, text)
    with pytest.raises(RequestError, match="MAKEMORE_MAX_MEMORY"):
        require_memory(1, "anything")


def test_default_limit_is_a_share_of_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    files = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8388608 kB\n",
        "/proc/self/cgroup": "0::/job/step\n",
        "/sys/fs/cgroup/job/memory.max": f"{2 << 30}\n",
        "/sys/fs/cgroup/job/step/memory.max": "max\n",
    }
    monkeypatch.setattr(limits, "_read", lambda path: files.get(str(path), ""))
    limits._available.cache_clear()
    try:
        assert memory_limit() == 3 << 29  # of the control group's 2 GiB
        files["/proc/self/cgroup"] = "4:memory:/job\n0::/\n"
        files["/sys/fs/cgroup/memory/job/memory.limit_in_bytes"] = f"{1 << 30}\n"
        limits._available.cache_clear()
        assert memory_limit() == 3 << 28  # version 1 of control groups
        del files["/proc/self/cgroup"]
        limits._available.cache_clear()
        assert memory_limit() == 6 << 30
    finally:
        limits._available.cache_clear()


def test_sizes_in_words() -> None:
    assert [in_words(n) for n in (5, 1536, 3 << 30, 1 << 70)] == [
        "5 bytes",
        "1.5 KiB",
        "3.0 GiB",
        "1,048,576.0 PiB",
    ]


def test_only_regular_files_have_a_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_size(tmp_path / "file", DataError) == 3
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero"), tmp_path / "a\0b"):
        with pytest.raises(DataError):
            file_size(path, DataError)


# Each of these asks for more than 10^9 of something; none may begin to take it.
@pytest.mark.parametrize(
    ("args", "arithmetic"),
    [
        (["--model.n_hidden", 10**9], "weights × 8 bytes"),
        (["--model.n_embd", 10**9], "weights × 8 bytes"),
        (["--model.n_layers", 10**9], "weights × 8 bytes"),
        (["--data.block_size", 10**9], "weights × 8 bytes"),
        (["--trainer.devices", 10**9], "1000000000 processes × 300.0 MiB"),
    ],
)
def test_fit_refuses_with_the_arithmetic(
    makemore: RunCommand,
    short_list: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[object],
    arithmetic: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = makemore("fit", "--data.path", short_list, *args)
    assert result.code == 2
    assert_one_line_error(result.err, arithmetic)
    assert "MAKEMORE_MAX_MEMORY" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "arithmetic"),
    [("2K", "weights × 8 bytes"), ("1M", "contexts:"), ("3M", "a step:")],
)
def test_each_estimate_of_fit_can_refuse(
    makemore: RunCommand,
    short_list: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    arithmetic: str,
) -> None:
    """The same small fit under ever larger limits meets one estimate after the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(limits.VARIABLE, limit)
    options = ("--model.n_hidden", 8, "--data.block_size", 64, "--trainer.accelerator", "cpu")
    monkeypatch.setattr("makemore_pl.commands.option_checks.PROCESS_BYTES", 1)
    result = makemore("fit", "--data.path", short_list, *options)
    assert result.code == 2
    assert_one_line_error(result.err, arithmetic)
    assert list(tmp_path.iterdir()) == []


def test_proof_and_file_are_estimated(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"268,435,457 parameters × 4 bytes = 1\.0 GiB"):
        expect_exportable(_Sized(268_435_457))  # type: ignore[arg-type]
    monkeypatch.setenv(limits.VARIABLE, "1M")
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


def test_sampler_refuses_lists_that_do_not_fit(run_folder: Path) -> None:
    sampler = Sampler(run_folder)
    with pytest.raises(MemoryLimitError, match="1,000,000,000,000 names of about 128 bytes"):
        sampler.sample(10**12)
    with pytest.raises(MemoryLimitError, match="different names"):
        sampler.stream(10**12, unique=True)
    first = next(sampler.stream(10**12, seed=1))  # not a list: as many as are wanted
    assert first.names[:5] == sampler.sample(5, seed=1)


def test_prefix_in_a_wide_vocabulary_is_estimated(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(run_folder)
    monkeypatch.setenv(limits.VARIABLE, "1M")
    with pytest.raises(MemoryLimitError, match="prefix: 9,000 characters"):
        sampler.sample(1, prefix="a" * 9_000)


def test_names_and_scores_do_not_depend_on_the_size_of_a_part(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"n": 200, "seed": 3, "temperature": 1.1, "prefix": "a"}
    names = Sampler(run_folder / "model.onnx").sample(**options)
    scores = [score.log_prob for score in Scorer(run_folder).score(names)]
    monkeypatch.setattr(engines, "STEPWISE_ENTRIES", 30 * 7)  # seven names at a time
    monkeypatch.setattr(scorer, "LOGITS_PER_CALL", 30 * 11)
    monkeypatch.setattr(scorer, "CHARACTERS_PER_BATCH", 50)
    assert Sampler(run_folder / "model.onnx").sample(**options) == names
    assert Sampler(run_folder / "model.onnx").sample(0) == []
    again = [score.log_prob for score in Scorer(run_folder).score(names)]
    assert again == pytest.approx(scores, abs=1e-5)


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
    environment = {"MAKEMORE_MAX_MEMORY": "256M", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert done.stdout.split() == ["refused", str(1 << 27)], done.stderr


def test_out_of_memory_is_one_line(
    makemore: RunCommand, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(engines.GraphSampler, "generate", fail)
    result = makemore("sample", run_folder)
    assert result.code == 2
    assert_one_line_error(result.err, "out of memory; the program may take")


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
    assert_one_line_error(result.err, "out of memory; the program may take")
    assert list(tmp_path.iterdir()) == []


def test_score_reads_no_endless_line(run_folder: Path, tmp_path: Path) -> None:
    """A file without line ends, and one that never ends."""
    command = f"{sys.executable} -m makemore_pl score {run_folder} - < /dev/zero"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert_one_line_error(done.stderr, "standard input, line 1: more than 10,000 characters")
    names = tmp_path / "names.txt"
    names.write_text("emma\n" + "a" * 10_000 + "\r\nava\n")
    rows = json.loads(
        subprocess.run(
            [sys.executable, "-m", "makemore_pl", "score", run_folder, names, "--format", "json"],
            capture_output=True,
            check=True,
        ).stdout
    )
    assert [len(row["name"]) for row in rows] == [4, 10_000, 3]


def test_predictions_are_estimated(
    makemore: RunCommand, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates: list[int] = []
    monkeypatch.chdir(run_folder.parents[1])
    monkeypatch.setattr(
        "makemore_pl.commands.predictions.require_memory",
        lambda n_bytes, arithmetic: estimates.append(n_bytes),
    )
    args = ("--ckpt_path", run_folder / "best.ckpt", "--trainer.enable_progress_bar", "false")
    result = makemore("predict", *args)
    n_examples = len(result.out[result.out.index("context,") :].splitlines()) - 1
    assert estimates == [8 * n_examples * len(Sampler(run_folder).info.vocabulary)]
