"""The steps of the proof for one model: trained → folded in float64 → folded in float32 → file."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from makemore_pl.errors import DataError, VerificationError
from makemore_pl.export.contexts import ContextSet
from makemore_pl.export.fold import fold
from makemore_pl.export.verify import (
    FLOAT64,
    Candidate,
    Check,
    Logits,
    compare,
    compare_batch_sizes,
    describe_context,
    float32_tolerance,
)
from makemore_pl.runtime.engines import open_next_character_model
from makemore_pl.training.checkpoint import Checkpoint
from makemore_pl.training.datamodule import NamesDataModule
from makemore_pl.training.model import BatchNormMLP


@dataclass(frozen=True)
class Report:
    """What was compared, and how far apart it was. Stored as `verification.json`.

    Attributes:
        contexts: how many contexts were compared.
        total: how many there are, V^T.
        checks: one for each form of the model, then those of the small batch sizes.
        characters: the vocabulary, to show contexts as text.
    """

    contexts: int
    total: int
    checks: list[Check]
    characters: str

    @property
    def exhaustive(self) -> bool:
        return self.contexts == self.total

    @property
    def largest(self) -> float:
        """Largest deviation of any form from the trained model, in any logit."""
        return max(check.largest for check in self.checks)

    def summary(self) -> dict[str, Any]:
        """What the exported file itself says of its proof."""
        return {
            "passed": True,  # a failure raises, and leaves no file
            "contexts": self.contexts,
            "contexts_total": self.total,
            "exhaustive": self.exhaustive,
            "largest_deviation": self.largest,
        }

    def to_json(self) -> str:
        checks = [
            {**check.to_json(), "context_text": describe_context(check.context, self.characters)}
            for check in self.checks
        ]
        return json.dumps({**self.summary(), "checks": checks}, indent=2, ensure_ascii=False) + "\n"

    def describe(self) -> str:
        """One line for people."""
        which = f"all {self.total:,}" if self.exhaustive else f"{self.contexts:,} of {self.total:,}"
        return f"verified on {which} contexts, largest deviation {self.largest:.1e}"


def prove(model: BatchNormMLP, checkpoint: Checkpoint, file: Path) -> Report:
    """Show that `file` computes what the trained `model` computes.

    Args:
        model: the trained network, in eval mode.
        checkpoint: where it comes from; its training list gives the contexts that occur.
        file: a `model.onnx`.

    Raises:
        FoldError: the model cannot be folded.
        ModelFileError: the file cannot be opened.
        VerificationError: some form of the model is not the trained one.
    """
    trained = copy.deepcopy(model).double()
    folded = fold(model)
    exported = open_next_character_model(file)
    if (exported.info.characters, exported.info.block_size) != (
        checkpoint.data["characters"],
        model.block_size,
    ):
        raise VerificationError(
            f"{file}: of another model (other characters or block size than {checkpoint.path})"
        )
    contexts = ContextSet(model.vocab_size, model.block_size)
    if not contexts.exhaustive:
        contexts = ContextSet(model.vocab_size, model.block_size, corpus=corpus_contexts(checkpoint))
    reference = module_logits(trained)
    output = folded.layers.get_submodule("output")
    assert isinstance(output, torch.nn.Linear)
    float32 = float32_tolerance(output.weight.detach().numpy(), output.bias.detach().numpy())
    onnx_file = Candidate(file.name, exported.next_logits, float32)
    candidates = [
        Candidate("folded in float64", module_logits(folded), FLOAT64),
        Candidate("folded in float32", module_logits(copy.deepcopy(folded).float()), float32),
        onnx_file,
    ]

    def track(chunks: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        return _progress(chunks, len(contexts))

    checks = compare(reference, candidates, contexts, track)
    checks += compare_batch_sizes(reference, onnx_file, contexts)
    return Report(len(contexts), contexts.total, checks, checkpoint.data["characters"])


def module_logits(module: torch.nn.Module) -> Logits:
    """A module in eval mode as a function of contexts, in the dtype of its weights."""
    assert not module.training

    def logits(contexts: NDArray[np.int64]) -> NDArray[Any]:
        with torch.inference_mode():
            output: NDArray[Any] = module(torch.from_numpy(contexts)).numpy()
        return output

    return logits


def corpus_contexts(checkpoint: Checkpoint) -> NDArray[np.integer]:
    """The different contexts of the training list, (n, T); none where the list is gone or changed."""
    none = np.empty((0, checkpoint.data_arguments["block_size"]), dtype=np.int64)
    try:
        data = NamesDataModule(**{**checkpoint.data_arguments, "characters": checkpoint.data["characters"]})
    except DataError:
        return none
    if data.list.sha256 != checkpoint.data["list_sha256"]:
        return none
    every = np.concatenate([data.windows(split)[0] for split in ("train", "dev", "test")])
    return np.unique(every, axis=0)


def _progress(chunks: Iterator[NDArray[np.int64]], total: int) -> Iterator[NDArray[np.int64]]:
    """A progress bar on stderr, where that is a terminal."""
    columns = (
        TextColumn("verifying"),
        BarColumn(),
        TextColumn("{task.completed:,} contexts"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        for chunk in chunks:
            yield chunk
            progress.advance(task, len(chunk))
