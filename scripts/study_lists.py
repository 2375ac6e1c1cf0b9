"""The default recipe on lists of any kind and length, beside the lectures' loop on the same splits.

Without files: beginnings of the shipped list, shuffled. NLL of dev and test in nats per character, of the
lectures' network after its 200,000 steps of 32, and of `makemore fit` as it comes (its best checkpoint).
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.data.lists import find_list
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.studies.raw_tensors import NotebookTraining
from makemore_pl.studies.sgd import LECTURE_SEED

LENGTHS = (300, 1_000, 3_000, 10_000, 32_469)
"""Names in the lists that are cut from the shipped one."""
PARTS = 20
"""In which the lectures' steps are made, for the progress bar."""

Figures = tuple[float, float]
"""NLL of dev and test."""


def cut_lists(folder: Path) -> list[Path]:
    """Write lists of `LENGTHS` names, each the beginning of the next."""
    names = find_list("names").names()
    random.Random(42).shuffle(names)
    files = [folder / f"names-{length}.txt" for length in LENGTHS]
    for file, length in zip(files, LENGTHS, strict=True):
        file.write_text("\n".join(names[:length]), encoding="utf-8")
    return files


def lectures(data: NamesDataModule, steps: int) -> Figures:
    """The lectures' loop, at its end."""
    generator = torch.Generator().manual_seed(LECTURE_SEED)
    training = NotebookTraining(data.examples("train"), generator, data.vocab_size)
    screen = Console(stderr=True)
    for _ in track(range(PARTS), description=data.list.name, transient=True, console=screen):
        training.advance(steps // PARTS)
    return training.evaluate(data.examples("dev")), training.evaluate(data.examples("test"))


def ours(file: Path, folder: Path) -> Figures:
    """`makemore fit` as it comes."""
    command = [
        sys.executable,
        "-m",
        "makemore_pl",
        "fit",
        "--data.path",
        str(file.resolve()),
        "--run",
        "list",
    ]
    command += ["--overwrite", "true", "--export.enabled", "false"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    [(dev, test)] = re.findall(r"^NLL: +([\d.]+) dev, ([\d.]+) test", done.stdout, re.MULTILINE)
    return float(dev), float(test)


def rows(files: list[Path], steps: int, folder: Path) -> Iterator[list[str]]:
    """A row of the table for each list."""
    for file in files:
        data = NamesDataModule(str(file))
        decay = LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples).weight_decay
        figures = [*lectures(data, steps), *ours(file, folder)]
        sizes = [f"{data.n_examples:,}", str(data.vocab_size), f"{decay:.2g}"]
        yield [file.stem, *sizes, *(f"{figure:.4f}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="lists, one name per line")
    parser.add_argument("--steps", type=int, default=200_000, help="of the lectures' loop")
    args = parser.parse_args()
    torch.set_num_threads(1)  # with which these networks train fastest
    print("| list | training examples | V | decay | lectures, dev | test | `makemore fit`, dev | test |")
    print("|---|" + "---:|" * 7)
    with tempfile.TemporaryDirectory() as temporary:
        files = args.files or cut_lists(Path(temporary))
        for row in rows(files, args.steps, Path(temporary)):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
