"""The default recipe on lists of any kind and length, beside the lectures' loop and counting.

Without files: beginnings of the shipped list, shuffled. NLL of dev and test in nats per character, of the
lectures' network after its 200,000 steps of 32, and of `makemore fit` as it comes (its best checkpoint); NLL
of dev by Kneser-Ney counts after 2 to 5 characters. With --known: dev of the makemore list as the lectures
cut it, its names that also stand in train apart from the others, by the same counts and by checkpoints.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.data.lists import find_list
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.studies.ngrams import kneser_ney
from makemore_pl.studies.raw_tensors import NotebookTraining
from makemore_pl.studies.sgd import LECTURE_SEED

LENGTHS = (300, 1_000, 3_000, 10_000, 32_469)
"""Names in the lists that are cut from the shipped one."""
PARTS = 20
"""In which the lectures' steps are made, for the progress bar."""

COUNTED = (2, 3, 4, 5)
"""Characters that counts depend on."""

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


def counting(data: NamesDataModule) -> Iterator[NDArray[np.float64]]:
    """Losses of the dev split's characters, for each of `COUNTED`; the block holds at least the longest."""
    for n_context in COUNTED:
        probabilities = kneser_ney(data.examples("train"), data.examples("dev"), n_context, data.vocab_size)
        yield -np.log(probabilities)


@torch.inference_mode()
def known_apart(checkpoints: list[Path]) -> Iterator[list[str]]:
    """A row for each number of counted characters and each checkpoint: dev, its known names, its new ones."""
    data = NamesDataModule("makemore", block_size=max(COUNTED), dedupe=False)
    known, names = set(data.corpus.names("train")), data.corpus.names("dev")
    is_known = np.repeat([name in known for name in names], [len(name) + 1 for name in names])
    losses = {f"counting, {n} characters": x for n, x in zip(COUNTED, counting(data), strict=True)}
    for path in checkpoints:
        model = read_checkpoint(path).load_model()
        contexts, targets = NamesDataModule("makemore", model.block_size, dedupe=False).examples("dev")
        losses[path.parent.name] = torch.nn.functional.cross_entropy(
            model(contexts), targets, reduction="none"
        ).numpy()
    for what, loss in losses.items():
        yield [what, *(f"{x.mean():.4f}" for x in (loss, loss[is_known], loss[~is_known]))]


def rows(files: list[Path], steps: int, folder: Path) -> Iterator[list[str]]:
    """A row of the table for each list."""
    for file in files:
        data = NamesDataModule(str(file))
        decay = LitBatchNormMLP(data.vocab_size, data.block_size, data.n_examples).weight_decay
        figures = [*lectures(data, steps), *ours(file, folder)]
        counted = counting(NamesDataModule(str(file), block_size=max(COUNTED)))
        figures += [float(losses.mean()) for losses in counted]
        sizes = [f"{data.n_examples:,}", str(data.vocab_size), f"{decay:.2g}"]
        yield [file.stem, *sizes, *(f"{figure:.4f}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="lists, one name per line")
    parser.add_argument("--steps", type=int, default=200_000, help="of the lectures' loop")
    known = "checkpoints of the makemore list, split as in the lectures"
    parser.add_argument("--known", type=Path, nargs="*", metavar="CKPT", help=known)
    args = parser.parse_args()
    torch.set_num_threads(1)  # with which these networks train fastest
    if args.known is not None:
        print("| | dev | names also in train | names not in train |\n|---|---:|---:|---:|")
        for row in known_apart(args.known):
            print(f"| {' | '.join(row)} |")
        return
    print(
        "| list | training examples | V | decay | lectures, dev | test | `makemore fit`, dev | test | "
        + " | ".join(f"counting {n}, dev" for n in COUNTED)
        + " |"
    )
    print("|---|" + "---:|" * (7 + len(COUNTED)))
    with tempfile.TemporaryDirectory() as temporary:
        files = args.files or cut_lists(Path(temporary))
        for row in rows(files, args.steps, Path(temporary)):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
