"""Which session options make a sampler.onnx fastest: one table, medians, all options in turns.

python scripts/study_session_options.py checkpoints/names/sampler.onnx
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before it is loaded

import onnxruntime as ort

STEPS = 30
SIZES = (1, 100, 10_000, 100_000)
Set = Callable[[ort.SessionOptions], None]


def threads(n: int) -> Set:
    return lambda options: setattr(options, "intra_op_num_threads", n)


def level(name: str) -> Set:
    return lambda options: setattr(
        options, "graph_optimization_level", getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{name}")
    )


def entry(key: str, value: str) -> Set:
    return lambda options: options.add_session_config_entry(key, value)


def switch(name: str) -> Set:
    return lambda options: setattr(options, name, False)


NO_SPINNING = entry("session.intra_op.allow_spinning", "0")
OPTIONS: dict[str, list[Set]] = {
    "1 thread, basic optimisation": [threads(1), level("BASIC")],
    "1 thread, all optimisations": [threads(1), level("ALL")],
    "1 thread, basic, no memory pattern": [threads(1), level("BASIC"), switch("enable_mem_pattern")],
    "1 thread, basic, no arena": [threads(1), level("BASIC"), switch("enable_cpu_mem_arena")],
    "2 threads, basic": [threads(2), level("BASIC")],
    "2 threads, basic, no spinning": [threads(2), level("BASIC"), NO_SPINNING],
}


def feeds(uniforms: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    one, zero = np.array(1, dtype=np.float32), np.array(0, dtype=np.int64)
    return {
        "uniforms": uniforms,
        "prefix": np.array([], dtype=np.int64),
        "temperature": one,
        "top_k": zero,
        "top_p": one,
        "min_length": np.array(1, dtype=np.int64),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sampler", type=Path)
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()

    content = args.sampler.read_bytes()
    outputs = ["codepoints", "log_prob"]
    sessions: dict[str, ort.InferenceSession] = {}
    loads: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for repetition in range(args.repetitions + 1):  # the first one warms up
        for name, setters in OPTIONS.items():
            options = ort.SessionOptions()
            for setter in setters:
                setter(options)
            start = time.perf_counter()
            sessions[name] = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            if repetition:
                loads[name].append(time.perf_counter() - start)
    load = {name: statistics.median(values) for name, values in loads.items()}

    rng = np.random.default_rng(0)
    inputs = {n: rng.random((n, STEPS), dtype=np.float32) for n in SIZES}
    runs: dict[str, Callable[[int], object]] = {
        name: lambda n, session=session: session.run(outputs, feeds(inputs[n]))  # type: ignore[misc]  # a default, to bind it now
        for name, session in sessions.items()
    }
    shared = sessions["1 thread, basic optimisation"]
    pool = ThreadPoolExecutor(2)
    runs["1 thread, basic, two calls of half the names"] = lambda n: list(
        pool.map(lambda part: shared.run(outputs, feeds(part)), np.array_split(inputs[n], 2))
    )
    print("| options | load, ms | " + " | ".join(f"n = {n:,}, µs a name" for n in SIZES) + " |")
    print("|---|---:|" + "---:|" * len(SIZES))
    times: dict[tuple[str, int], list[float]] = {(name, n): [] for name in runs for n in SIZES}
    for n in SIZES:
        for _ in range(args.repetitions):
            for name, run in runs.items():
                calls = max(1, 2_000 // n)
                start = time.perf_counter()
                for _ in range(calls):
                    run(n)
                times[name, n].append((time.perf_counter() - start) / calls / n)
    for name in runs:
        cells = [f"{statistics.median(times[name, n]) * 1e6:,.2f}" for n in SIZES]
        print(f"| {name} | {load[name] * 1e3:.0f} | " if name in load else f"| {name} | | ", end="")
        print(" | ".join(cells) + " |")


if __name__ == "__main__":
    main()
