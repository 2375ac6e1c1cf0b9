"""Names per second, latency, start-up and sizes: this project's files beside what one would use instead.

    pip install namemaker
    python scripts/bench_inference.py CHECKPOINT [-o docs/inference.json]

Everything is measured in one process and one run, in turns, so that a busy machine slows all alike; medians
over several repetitions. Baselines: the notebooks' way, one character of one name at a time through PyTorch;
the same through ONNX Runtime; PyTorch on all names at once, plain and compiled; namemaker, a Markov-chain
generator from PyPI; and twenty lines of NumPy over a table of cumulative probabilities.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from makemore_pl.data.lists import find_list
from makemore_pl.export.export import export_checkpoint
from makemore_pl.exported.metadata import FORMS
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.runtime.decoding import Decoding
from makemore_pl.runtime.engines import GraphSampler, NextCharacterModel, open_engine
from makemore_pl.runtime.sampler import Sampler

Generate = Callable[[int], object]
"""Makes n names."""
SIZES = (1, 100, 10_000, 100_000)
STEPS = 30


def notebooks_way(model: BatchNormMLP) -> Generate:
    """One name after the other, one character at a time, through PyTorch."""

    def one() -> list[int]:
        context = [0] * model.block_size
        name: list[int] = []
        while len(name) < STEPS:
            probs = torch.softmax(model(torch.tensor([context])), dim=1)
            token = int(torch.multinomial(probs, num_samples=1).item())
            if token == 0:
                break
            context = [*context[1:], token]
            name.append(token)
        return name

    @torch.no_grad()
    def generate(n: int) -> object:
        return [one() for _ in range(n)]

    return generate


def one_at_a_time_onnxruntime(file: Path) -> Generate:
    """The same through ONNX Runtime and NumPy."""
    model = open_engine(file)
    assert isinstance(model, NextCharacterModel)
    rng = np.random.default_rng(0)

    def one() -> list[int]:
        context = [0] * model.info.block_size
        name: list[int] = []
        while len(name) < STEPS:
            [logits] = model.next_logits(np.array([context]))
            cumulative = np.cumsum(np.exp(logits - logits.max()))
            token = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
            if token == 0:
                break
            context = [*context[1:], token]
            name.append(token)
        return name

    return lambda n: [one() for _ in range(n)]


def batched_pytorch(model: BatchNormMLP, *, compiled: bool) -> Generate:
    """All names together, a character each per step, until the last has ended."""
    network = torch.compile(model, dynamic=True) if compiled else model

    @torch.no_grad()
    def generate(n: int) -> object:
        context = torch.zeros((n, model.block_size), dtype=torch.int64)
        names, alive = [], torch.ones(n, dtype=torch.bool)
        for _ in range(STEPS):
            token = torch.multinomial(torch.softmax(network(context), dim=1), num_samples=1)
            token[~alive] = 0
            alive = alive & (token[:, 0] != 0)
            names.append(token)
            if not alive.any():
                break
            context = torch.cat([context[:, 1:], token], dim=1)
        return torch.cat(names, dim=1)

    return generate


def namemaker(names: list[str], *, plain: bool) -> Generate:
    """A Markov chain of order 3 over the same list: as it comes, or one candidate and nothing excluded."""
    import namemaker as library

    chain = library.make_name_set(names, clean_up=False)
    plainly = {
        "exclude_real_names": False,
        "exclude_history": False,
        "add_to_history": False,
        "n_candidates": 1,
    }
    return lambda n: [chain.make_name(**(plainly if plain else {})) for _ in range(n)]


def sampler_run(file: Path) -> Generate:
    """One call of the file: uniforms in, code points out."""
    engine = open_engine(file)
    rng, prefix, decoding = np.random.default_rng(0), np.array([], dtype=np.int64), Decoding(min_length=0)
    uniforms: dict[int, NDArray[np.float32]] = {n: rng.random((n, STEPS), dtype=np.float32) for n in SIZES}
    return lambda n: engine.generate(uniforms[n], prefix, decoding)


def sampler_text(folder: Path) -> Generate:
    """The Python class, texts included."""
    sampler = Sampler(folder)
    return lambda n: sampler.sample(n, max_length=STEPS)


def twenty_lines(file: Path) -> Generate:
    """A table of cumulative probabilities, the names still alive, one comparison a step; texts included."""
    engine = open_engine(file)
    assert isinstance(engine, GraphSampler)
    assert engine.tables is not None
    logits = engine.tables.of([0]).logits
    n_contexts, vocab_size = logits.shape
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    cumulative = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)  # (V^T, V)
    codepoints, rng = engine.info.vocabulary.token_codepoints, np.random.default_rng(0)

    def generate(n: int) -> object:
        names = np.zeros((n, STEPS), np.int32)
        uniforms = rng.random((n, STEPS), dtype=np.float32)
        alive, contexts = np.arange(n), np.zeros(n, dtype=np.int64)
        for step in range(STEPS):
            ids = (cumulative[contexts, :-1] <= uniforms[alive, step, None]).sum(axis=1)
            names[alive, step] = codepoints[ids]
            longer = ids > 0
            alive, contexts = alive[longer], (contexts[longer] * vocab_size + ids[longer]) % n_contexts
        return names.view(f"<U{STEPS}")[:, 0].tolist()

    return generate


def measure(ways: dict[str, Generate], repetitions: int, budget: float) -> dict[str, dict[int, float]]:
    """Median seconds for each way and size; what would take longer than `budget` seconds is left out."""
    seconds: dict[str, dict[int, float]] = {name: {} for name in ways}
    for n in SIZES:
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for repetition in range(repetitions + 1):  # the first one warms up
            for name, generate in ways.items():
                smaller = seconds[name]
                if smaller and max(smaller.values()) / max(smaller) * n > budget:
                    continue
                # Short calls are repeated within one measurement, for the clock's sake.
                calls = max(1, 2_000 // n) if smaller or n == 1 else 1
                start = time.perf_counter()
                for _ in range(calls):
                    generate(n)
                if repetition:
                    taken[name].append((time.perf_counter() - start) / calls)
        for name, times in taken.items():
            if times:
                seconds[name][n] = statistics.median(times)
    return seconds


def measure_wishes(
    folder: Path, names: list[str], n: int, repetitions: int
) -> dict[str, tuple[float, float, float]]:
    """Of each wish: its probability, and median seconds for n names drawn exactly, and by rejecting others.

    The files are open. Drawing exactly includes making the wish's tables; rejecting has a test of its own for
    each wish, the fastest that Python has.
    """
    common = [name[1:] for name in names if len(name) > 4][:1_000]
    has_common = re.compile("|".join(map(re.escape, common))).search
    listed = set(names)
    one_vowel = "^[^aeiou]*[aeiou][^aeiou]*$"
    has_one_vowel = re.compile(one_vowel).search
    wishes: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
        "ends in ella, 6 to 9 letters": (
            {"suffix": "ella", "min_length": 6, "max_length": 9},
            lambda name: name.endswith("ella") and 6 <= len(name) <= 9,
        ),
        "ends in ella": ({"suffix": "ella"}, lambda name: name.endswith("ella")),
        "contains ann": ({"contains": ["ann"]}, lambda name: "ann" in name),
        "none of 1,000 texts": ({"banned": common}, lambda name: not has_common(name)),
        "not in the training list": ({"novel": names}, lambda name: name not in listed),
        f"matches {one_vowel}": ({"match": one_vowel}, lambda name: has_one_vowel(name) is not None),
    }

    def rejecting(sampler: Sampler, fits: Callable[[str], bool]) -> object:
        kept: list[str] = []
        for batch in sampler.stream(10**9, min_length=0):
            kept += filter(fits, batch.names)
            if len(kept) >= n:
                return kept[:n]
        return kept

    figures: dict[str, tuple[float, float, float]] = {}
    for label, (options, fits) in wishes.items():
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(repetitions):
            sampler = Sampler(folder)  # one that keeps no tables of the wish
            sampler.probability(prefix="a")  # opens model.onnx, too
            ways: tuple[Callable[[], object], ...] = (
                partial(sampler.sample, n, **options),
                partial(rejecting, sampler, fits),
            )
            for times, way in zip(taken, ways, strict=True):
                start = time.perf_counter()
                way()
                times.append(time.perf_counter() - start)
        exact, rejected = map(statistics.median, taken)
        figures[label] = sampler.probability(**options), exact, rejected
    return figures


def measure_ids(folder: Path, n: int, repetitions: int) -> float:
    """Median seconds for the names of n ids, with the files opened and the tables made."""
    ids = [f"user-{i}" for i in range(n)]
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        Sampler(folder, prepare=False).for_ids(ids)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def start_up(folder: Path, repetitions: int) -> dict[str, float]:
    """Median seconds from process start to exit."""
    commands = {
        "makemore sample -n 20": [sys.executable, "-m", "makemore_pl", "sample", str(folder), "-n", "20"],
        "import numpy, onnxruntime": [sys.executable, "-c", "import numpy, onnxruntime"],
        "import torch": [sys.executable, "-c", "import torch"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for repetition in range(repetitions + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if repetition:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def installed_size() -> dict[str, float]:
    """Megabytes of the packages that each half needs."""
    site = Path(np.__file__).parents[1]

    def megabytes(*packages: str) -> float:
        files = [
            f for p in packages for folder in site.glob(f"{p}*") for f in folder.rglob("*") if f.is_file()
        ]
        return sum(f.stat().st_size for f in files) / 2**20

    return {
        "numpy and onnxruntime": megabytes("numpy", "onnxruntime"),
        "torch": megabytes("torch", "functorch"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--budget", type=float, default=20.0, help="longest single measurement, seconds")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the figures")
    args = parser.parse_args()

    source = read_checkpoint(args.checkpoint)
    model = source.load_model()
    with tempfile.TemporaryDirectory() as temporary:
        folders: dict[str, Path] = {}
        for form in FORMS:
            try:
                folders[form] = export_checkpoint(args.checkpoint, Path(temporary) / form, form).folder
            except Exception as error:
                print(f"{form}: left out ({error})")
        auto = export_checkpoint(args.checkpoint, Path(temporary) / "auto").folder
        ways: dict[str, Generate] = {
            "notebooks' way, PyTorch": notebooks_way(model),
            "one character at a time, ONNX Runtime": one_at_a_time_onnxruntime(folders["mlp"] / "model.onnx"),
            "PyTorch, batched": batched_pytorch(model, compiled=False),
            "PyTorch, batched and compiled": batched_pytorch(model, compiled=True),
            "namemaker, defaults": namemaker(find_list("names").names(), plain=False),
            "namemaker, plain draws": namemaker(find_list("names").names(), plain=True),
            **{
                f"sampler.onnx, {form}": sampler_run(folder / "sampler.onnx")
                for form, folder in folders.items()
            },
            "Sampler.sample, texts": sampler_text(auto),
        }
        if "table" in folders:
            ways["twenty lines of NumPy, texts"] = twenty_lines(folders["table"] / "sampler.onnx")
        seconds = measure(ways, args.repetitions, args.budget)
        wishes, seconds_for_ids = {}, 0.0
        if "table" in folders:  # so few contexts that every wish has its tables
            names = find_list(source.data_arguments["path"]).names()
            wishes = measure_wishes(auto, names, 10_000, args.repetitions)
            seconds_for_ids = measure_ids(auto, 100_000, args.repetitions)
        starts = start_up(auto, args.repetitions)
        sizes = {form: (folder / "sampler.onnx").stat().st_size for form, folder in folders.items()}

    print(f"\n{model.n_parameters:,} parameters, context {model.block_size}, {os.cpu_count()} cores\n")
    print("| names per second | " + " | ".join(f"n = {n:,}" for n in SIZES) + " |")
    print("|---|" + "---:|" * len(SIZES))
    for name, times in seconds.items():
        cells = [f"{n / times[n]:,.0f}" if n in times else "—" for n in SIZES]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| one name | median latency |\n|---|---:|")
    for name, times in seconds.items():
        print(f"| {name} | {times[1] * 1e6:,.0f} µs |")
    if wishes:
        print("\n| 10,000 names that fulfil a wish | its probability | exactly, s | rejecting, s | ratio |")
        print("|---|---:|---:|---:|---:|")
        for name, (probability, exactly, rejecting) in wishes.items():
            shown, ratio = name.replace("|", "\\|"), rejecting / exactly
            print(f"| {shown} | {probability:.3g} | {exactly:.3f} | {rejecting:.3f} | {ratio:.1f} |")
        print(f"| 100,000 ids | | {seconds_for_ids:.3f} | | |")
    print("\n| process from start to exit | seconds |\n|---|---:|")
    for name, value in starts.items():
        print(f"| `{name}` | {value:.3f} |")
    print("\n| size | |\n|---|---:|")
    for stored, size in sizes.items():
        print(f"| sampler.onnx, {stored} | {size / 1024:,.0f} KiB |")
    installed = installed_size()
    for name, value in installed.items():
        print(f"| installed: {name} | {value:,.0f} MiB |")
    if args.output:
        figures = {
            "seconds": seconds,
            "wishes": wishes,
            "ids": seconds_for_ids,
            "start_up": starts,
            "bytes": sizes,
            "installed_mib": installed,
        }
        args.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
