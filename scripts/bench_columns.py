"""Speed and memory of scoring columns, beside a loop over names and twenty lines of NumPy.

    python scripts/bench_columns.py checkpoints/makemore/model.onnx

For the figures in docs/columns.md. All ways read the same Parquet file and write the same columns. They take
turns, so that other load slows all of them alike; medians. --sizes measures time and peak memory of
`makemore score` for files of several sizes, each in a process of its own.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as parquet
from numpy.lib.stride_tricks import sliding_window_view

from makemore_pl.commands.score import run as score
from makemore_pl.data.lists import find_list
from makemore_pl.runtime.decoding import log_softmax
from makemore_pl.runtime.engines import NextCharacterModel, open_engine
from makemore_pl.scoring.scorer import Score, Scorer

ROWS_AT_ONCE = 1 << 18


class LoopScorer:
    """Names one by one in Python, and their contexts through the network in batches: the first Scorer."""

    def __init__(self, model: Path) -> None:
        opened = open_engine(model)
        assert isinstance(opened, NextCharacterModel)
        self.model, self.info = opened, opened.info

    def stream(self, names: Iterable[str]) -> Iterator[Score]:
        most = (1 << 20) // (len(self.info.vocabulary) + self.info.block_size)
        batch: list[str] = []
        n_contexts = 0
        for name in names:
            batch.append(name)
            n_contexts += len(name) + 1
            if n_contexts >= most:
                yield from self.score_batch(batch)
                batch, n_contexts = [], 0
        yield from self.score_batch(batch)

    def score_batch(self, names: list[str]) -> Iterator[Score]:
        known = set(self.info.characters)
        unknown = ["".join(sorted(set(name) - known)) for name in names]
        log_probs = iter(self.log_probs([name for name, bad in zip(names, unknown, strict=True) if not bad]))
        for name, bad in zip(names, unknown, strict=True):
            yield Score(name, None if bad else next(log_probs), bad)

    def log_probs(self, names: list[str]) -> list[float]:
        if not names:
            return []
        size = self.info.block_size
        lengths = np.array([len(name) for name in names])
        ids = self.info.vocabulary.encode("".join(names))
        name_of = np.repeat(np.arange(len(names)), lengths)
        at = np.arange(len(ids)) + (name_of + 1) * size + name_of
        ends = np.cumsum(lengths + size + 1) - 1
        row = np.zeros(int(ends[-1]) + 1, dtype=np.int64)
        row[at] = ids
        targets = np.sort(np.concatenate([at, ends]))
        contexts = sliding_window_view(row, size)[targets - size]
        predicted = log_softmax(self.model.next_logits(contexts))[np.arange(len(targets)), row[targets]]
        starts = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
        return list(np.add.reduceat(predicted, starts).tolist())


def with_numpy(table: np.ndarray, characters: str, size: int, names: pa.Array) -> np.ndarray:
    """Twenty lines: ASCII names, all characters known, and a table of all contexts, float64 (V^(T+1),)."""
    vocab_size = len(characters) + 1
    _, offsets_buffer, data_buffer = names.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[names.offset :][: len(names) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    offsets -= offsets[0]
    id_of = np.zeros(256, dtype=np.int64)
    id_of[np.frombuffer(characters.encode(), np.uint8)] = np.arange(1, vocab_size)
    lengths = np.diff(offsets)
    name_of = np.repeat(np.arange(len(names)), lengths + 1)
    row = np.zeros(len(data) + len(names) * (size + 1) + size, dtype=np.int64)
    starts = offsets[:-1] + np.arange(len(names)) * (size + 1) + size
    first = np.cumsum(lengths + 1) - (lengths + 1)
    targets = np.arange(len(name_of)) - first[name_of] + starts[name_of]
    is_character = np.ones(len(name_of), dtype=bool)
    is_character[first + lengths] = False
    row[targets[is_character]] = id_of[data]
    index = np.zeros(len(targets), dtype=np.int64)
    for k in range(size, -1, -1):
        index = index * vocab_size + row[targets - k]
    return np.bincount(name_of, table[index], len(names))


def write_names(file: Path, n: int, characters: str) -> None:
    """A Parquet file of n names, drawn from the shipped list, those of the model's characters."""
    names = np.array([name for name in find_list("names").names() if set(name) <= set(characters)])
    rng = np.random.default_rng(0)
    with parquet.ParquetWriter(file, pa.schema({"name": pa.string()}), use_dictionary=False) as writer:
        for start in range(0, n, ROWS_AT_ONCE):
            some = names[rng.integers(len(names), size=min(ROWS_AT_ONCE, n - start))]
            writer.write_table(pa.table({"name": pa.array(some.tolist())}))


def file_to_file(source: Path, target: Path, figures: Callable[[pa.Array], dict[str, object]]) -> None:
    """Read names, score them, write them with their figures."""
    writer = None
    for batch in parquet.ParquetFile(source).iter_batches(ROWS_AT_ONCE):
        table = pa.table({"name": batch["name"], **figures(batch["name"])})
        writer = writer or parquet.ParquetWriter(target, table.schema, use_dictionary=["name", "unknown"])
        writer.write_table(table)
    if writer:
        writer.close()


def compare(model: Path, n: int, repetitions: int, folder: Path) -> None:
    """Print seconds and ratios of the three ways."""
    source = folder / "names.parquet"
    scorer, loop = Scorer(model), LoopScorer(model)
    info = scorer.info
    write_names(source, n, info.characters)
    size, vocab_size = info.block_size, len(info.vocabulary)
    contexts = np.stack(np.unravel_index(np.arange(vocab_size**size), [vocab_size] * size), axis=1)
    table = log_softmax(loop.model.next_logits(contexts)).ravel()

    def by_loop(names: pa.Array) -> dict[str, object]:
        scores = list(loop.stream(names.to_pylist()))
        columns = ("log_prob", "per_character", "perplexity", "unknown")
        return {column: pa.array([getattr(s, column) for s in scores]) for column in columns}

    def by_numpy(names: pa.Array) -> dict[str, object]:
        log_prob = with_numpy(table, info.characters, size, names)
        per_character = log_prob / (pa.compute.utf8_length(names).to_numpy() + 1)
        unknown = pa.array([""]).take(pa.array(np.zeros(len(names), np.int8)))
        perplexity = np.exp(-per_character)
        return {
            "log_prob": log_prob,
            "per_character": per_character,
            "perplexity": perplexity,
            "unknown": unknown,
        }

    def by_command() -> None:
        score("score", [str(model), str(source), "-o", str(folder / "command.parquet")])

    names = parquet.read_table(source)["name"].combine_chunks()
    texts = names.to_pylist()
    ways: dict[str, Callable[[], object]] = {
        "file to file, loop": lambda: file_to_file(source, folder / "loop.parquet", by_loop),
        "file to file, twenty lines of NumPy": lambda: file_to_file(
            source, folder / "numpy.parquet", by_numpy
        ),
        "file to file, makemore score": by_command,
        "Arrow to array, twenty lines of NumPy": lambda: with_numpy(table, info.characters, size, names),
        "Arrow to array, Scorer.log_probs": lambda: scorer.log_probs(names),
        "list to scores, loop": lambda: list(loop.stream(texts)),
        "list to scores, Scorer.score": lambda: scorer.score(texts),
        "list to array, Scorer.log_probs": lambda: scorer.log_probs(texts),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repetitions):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - started)
    print(f"{n:,} names, medians of {repetitions}\n\n| | seconds | names/s |\n|---|---:|---:|")
    medians = {way: statistics.median(s) for way, s in seconds.items()}
    for way, median in medians.items():
        print(f"| {way} | {median:.3f} | {n / median:,.0f} |")
    for base, other in (
        ("file to file, loop", "file to file, makemore score"),
        ("file to file, twenty lines of NumPy", "file to file, makemore score"),
        ("Arrow to array, twenty lines of NumPy", "Arrow to array, Scorer.log_probs"),
        ("list to scores, loop", "list to scores, Scorer.score"),
        ("list to scores, loop", "Arrow to array, Scorer.log_probs"),
    ):
        print(f"{other} is {medians[base] / medians[other]:.1f} times as fast as {base}")
    results = [
        parquet.read_table(folder / f"{way}.parquet")["log_prob"].to_numpy()
        for way in ("loop", "numpy", "command")
    ]
    largest = max(float(np.abs(result - results[0]).max()) for result in results)
    total = math.fsum(results[-1])
    print(f"largest difference of a log-likelihood: {largest:.1e}; their sum: {total:,.6f}")


def measure_sizes(model: Path, sizes: list[int], folder: Path) -> None:
    """Print time and peak memory of the command for each size."""
    print("\n| rows | seconds | ns/row | peak, MiB |\n|---:|---:|---:|---:|")
    characters = Scorer(model).info.characters
    for n in sizes:
        source = folder / f"{n}.parquet"
        write_names(source, n, characters)
        code = (
            "import re, sys, time; started = time.perf_counter()\n"
            "from makemore_pl.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit as end: assert not end.code\n"
            # Not getrusage: its peak is that of the process that started this one, if that was larger.
            "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"
            "print(time.perf_counter() - started, peak)"
        )
        arguments = map(str, ("score", model, source, "-o", folder / "out.parquet"))
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, kibibytes = map(float, done.stdout.split())
        print(f"| {n:,} | {seconds:.2f} | {seconds / n * 1e9:,.0f} | {kibibytes / 1024:,.0f} |", flush=True)
        assert parquet.ParquetFile(folder / "out.parquet").metadata.num_rows == n
        source.unlink()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="model.onnx")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="rows of files, e.g. 100000 1000000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.rows:
            compare(options.model, options.rows, options.repetitions, Path(folder))
        measure_sizes(options.model, options.sizes, Path(folder))


if __name__ == "__main__":
    main()
