"""What labels cost: training and sampling with them, beside the same names without.

    python scripts/bench_labels.py [--rounds 9]

The shipped list, each name labelled by whether its length is odd, against the list itself: one in turn with
the other, in one process, and the ratio of the medians. The networks are of the default size, with as many
steps and names on both sides; the names may be of other lengths.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.data.lists import find_list
from makemore_pl.export.export import export_checkpoint
from makemore_pl.exported.metadata import FORMS
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runtime.decoding import Decoding
from makemore_pl.runtime.engines import GraphSampler, NextCharacterModel, open_engine

STEPS = 200
CALLS = {1: 100, 100: 20, 10_000: 20, 100_000: 4}
"""Of n names, with other draws in each: what a call takes depends on the length of its longest name."""


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(what: str, labelled: Callable[[], object], plain: Callable[[], object], rounds: int) -> None:
    """Print how many times as long the first takes: the ratio of the medians."""
    labelled(), plain()  # warm
    times = [(seconds(labelled), seconds(plain)) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"| {what} | {1000 * a:.2f} ms | {1000 * b:.2f} ms | {a / b:.2f} |", flush=True)


def train(data: NamesDataModule, steps: int = STEPS) -> tuple[L.Trainer, LitBatchNormMLP]:
    module = LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples, n_labels=data.n_labels)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_steps=steps, limit_val_batches=0, enable_model_summary=False, **quiet)  # type: ignore[arg-type]
    trainer.fit(module, datamodule=data)
    return trainer, module


def draw(
    engine: NextCharacterModel | GraphSampler,
    uniforms: NDArray[np.float32],
    label_ids: NDArray[np.int64] | None = None,
) -> None:
    """Draw names in several calls: uniforms (calls, n, steps), label_ids (n,)."""
    for of_call in uniforms:
        engine.generate(of_call, np.array([], dtype=np.int64), Decoding(), label_ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    L.seed_everything(1)
    print("| | with labels | without | ratio |", "|---|---:|---:|---:|", sep="\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = find_list("names").names()
        rows = "".join(f"{name},{'odd' if len(name) % 2 else 'even'}\n" for name in names)
        (folder / "list.csv").write_text(f"name,length\n{rows}", encoding="utf-8")
        labelled = NamesDataModule(str(folder / "list.csv"), name_column="name", label_column="length")
        plain = NamesDataModule()
        compare(f"{STEPS} training steps", lambda: train(labelled), lambda: train(plain), rounds)
        for data, place in ((labelled, "labelled"), (plain, "plain")):
            trainer, _ = train(data)
            trainer.save_checkpoint(folder / f"{place}.ckpt")
        for form in FORMS:
            engines = []
            for place in ("labelled", "plain"):
                export_checkpoint(folder / f"{place}.ckpt", folder / place / form, form)
                engines.append(open_engine(folder / place / form / "sampler.onnx"))
            for n, calls in CALLS.items():
                generator = np.random.default_rng(1)
                uniforms = generator.random((calls, n, 30), dtype=np.float32)
                ids = len(plain.vocabulary) + generator.integers(2, size=n)
                compare(
                    f"{calls} × {n:,} names, form {form}",
                    partial(draw, engines[0], uniforms, ids),
                    partial(draw, engines[1], uniforms),
                    rounds,
                )


if __name__ == "__main__":
    main()
