"""The steps of the proof for one model: trained → folded in float64 → folded in float32 → files."""

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from makemore_pl.data.batches import windows
from makemore_pl.data.corpus import SPLITS
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import DataError, VerificationError
from makemore_pl.graph.forms import FoldedWeights
from makemore_pl.memory import require_memory
from makemore_pl.model.fold import fold
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.certificate import Certificate, certify
from makemore_pl.proof.contexts import ContextSet
from makemore_pl.proof.logits import (
    FLOAT64,
    Candidate,
    Check,
    Logits,
    compare,
    compare_batch_sizes,
    describe_context,
    float32_tolerance,
)
from makemore_pl.proof.names import MAX_LOGITS, SameNames, compare_names
from makemore_pl.proof.network_reader import read_network
from makemore_pl.runs.checkpoint import Checkpoint
from makemore_pl.runtime.decoding import Decoding
from makemore_pl.runtime.engines import GraphSampler, NextCharacterModel, open_engine
from makemore_pl.runtime.metadata import ModelInfo

MOST_OF_CORPUS = 1 << 21
"""About so many contexts of the training list are compared: all, unless there are millions of names."""
EXAMPLES_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class Report:
    """What was compared, and how far apart it was. Stored as `verification.json`.

    Attributes:
        contexts: how many contexts were compared.
        total: how many there are, V^T.
        checks: one for each form of the model, then those of the small batch sizes.
        certificate: a bound that holds after every context; None where the file has no weights to read, only
            logits, which are then compared one by one.
        names: the comparison of the sampler's names; None where no sampler was to be proven.
        characters: the vocabulary, to show contexts as text.
    """

    contexts: int
    total: int
    checks: list[Check]
    certificate: Certificate | None
    names: SameNames | None
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
            "bound": self.certificate.total if self.certificate else None,
            "names": self.names.names if self.names else 0,
        }

    def to_json(self) -> str:
        checks = [
            {**asdict(check), "context_text": describe_context(check.context, self.characters)}
            for check in self.checks
        ]
        parts = {
            "checks": checks,
            "certificate": asdict(self.certificate) if self.certificate else None,
            "sampler": asdict(self.names) if self.names else None,
        }
        return json.dumps({**self.summary(), **parts}, indent=2, ensure_ascii=False) + "\n"

    def describe(self) -> str:
        """One line for people."""
        which = f"all {self.total:,}" if self.exhaustive else f"{self.contexts:,} of {self.total:,}"
        names = f", {self.names.names:,} names the same" if self.names else ""
        return f"verified on {which} contexts, largest deviation {self.largest:.1e}{names}"


def prove(checkpoint: Checkpoint, *files: Path) -> Report:
    """Show that the files compute what the checkpoint's model computes.

    Args:
        checkpoint: of the trained model; its training list gives the contexts that occur.
        files: a `model.onnx`, a `sampler.onnx`, or both.

    Raises:
        CheckpointError: the checkpoint's weights do not fit its arguments.
        FoldError: the model cannot be folded.
        ModelFileError: a file cannot be opened.
        VerificationError: some form of the model is not the trained one.
    """
    model = checkpoint.load_model()
    require_proof_memory(model)
    folded = fold(model)
    weights = FoldedWeights.from_model(folded)
    tolerance = float32_tolerance(weights)
    reference = module_logits(copy.deepcopy(model).double())
    candidates = [
        Candidate("folded in float64", module_logits(folded), FLOAT64),
        Candidate("folded in float32", module_logits(copy.deepcopy(folded).float()), tolerance),
    ]

    engines = {file: open_engine(file) for file in files}
    for file, engine in engines.items():
        _expect_same_model(engine.info, checkpoint, file)
    models = {file: e for file, e in engines.items() if isinstance(e, NextCharacterModel)}
    from_files = [Candidate(file.name, e.next_logits, tolerance) for file, e in models.items()]

    widest = max(model.n_hidden, model.block_size * model.n_embd)
    contexts = ContextSet(model.vocab_size, model.block_size, widest=widest)
    if not contexts.exhaustive:
        contexts = replace(contexts, corpus=corpus_contexts(checkpoint))
    certificates = [_certify(weights, file, e.info) for file, e in models.items()]
    checks = compare(reference, [*candidates, *from_files], contexts, lambda c: _progress(c, len(contexts)))
    for candidate in from_files:
        checks += compare_batch_sizes(reference, candidate, contexts)

    samplers = {file: e for file, e in engines.items() if isinstance(e, GraphSampler)}
    # As the runtime opens it for many calls, and as for one: computed from constants at load, or in the call.
    unprepared = [open_engine(file, prepare=False) for file in samplers]
    names = [
        compare_names(
            engine.generate_tokens,
            reference,
            model.vocab_size,
            model.block_size,
            2 * engine.info.longest_name,
            tolerance,
        )
        for engine in [*samplers.values(), *unprepared]
        if isinstance(engine, GraphSampler)
    ]
    for file, engine in samplers.items():
        _expect_same_characters(engine, file)
    return Report(
        contexts=len(contexts),
        total=contexts.total,
        checks=checks,
        certificate=next((c for c in certificates if c is not None), None),
        names=max(names, key=lambda found: found.borderline) if names else None,
        characters=checkpoint.data["characters"],
    )


def module_logits(module: torch.nn.Module) -> Logits:
    """A module in eval mode as a function of contexts, in the dtype of its weights."""
    assert not module.training

    def logits(contexts: NDArray[np.int64]) -> NDArray[Any]:
        with torch.inference_mode():
            output: NDArray[Any] = module(torch.from_numpy(contexts)).numpy()
        return output

    return logits


def corpus_contexts(checkpoint: Checkpoint) -> NDArray[np.integer]:
    """The different contexts of the training list, (n, T); none where the list is gone or changed.

    Of a list that has more than `MOST_OF_CORPUS`, the first so many, and some.
    """
    block_size = checkpoint.data_arguments["block_size"]
    found = np.empty((0, block_size), dtype=np.uint8)
    try:
        data = NamesDataModule(**{**checkpoint.data_arguments, "characters": checkpoint.data["characters"]})
    except DataError:
        return found
    if data.list.sha256 != checkpoint.data["list_sha256"]:
        return found
    for split in SPLITS:
        stream = torch.from_numpy(data.corpus.streams[split])
        for places in torch.split(torch.arange(len(stream)), EXAMPLES_AT_A_TIME):
            if len(found) < MOST_OF_CORPUS:
                contexts, _ = windows(stream, places, block_size)
                found = np.unique(np.concatenate([found, contexts.numpy()]), axis=0)
    return found


def require_proof_memory(model: BatchNormMLP) -> None:
    """Estimate what a proof takes: weights in both precisions and in files, and the certificate's tables.

    Raises:
        MemoryLimitError: too much.
    """
    n, (t, v, h) = model.n_parameters, (model.block_size, model.vocab_size, model.n_hidden)
    require_memory(
        60 * n + 40 * t * v * h,
        f"proof: {n:,} parameters × 60 bytes + {t:,}×{v:,}×{h:,} entries of tables × 40 bytes",
    )


def _expect_same_model(info: ModelInfo, checkpoint: Checkpoint, file: Path) -> None:
    block_size = checkpoint.model_arguments["block_size"]
    if (info.characters, info.block_size) != (checkpoint.data["characters"], block_size):
        raise VerificationError(
            f"{file}: of another model (other characters or block size than {checkpoint.path})"
        )


def _expect_same_characters(sampler: GraphSampler, file: Path) -> None:
    """The graph's own table of code points against the vocabulary: every id, as a prefix of a name.

    Raises:
        VerificationError: an id gives another character.
    """
    codepoints = sampler.info.vocabulary.codepoints
    v = len(codepoints) + 1
    no_draws = np.empty((1, 0), dtype=np.float32)
    for ids in np.array_split(np.arange(1, v), -(-v * v // MAX_LOGITS)):
        [drawn], _ = sampler.generate(no_draws, ids, Decoding())
        if not np.array_equal(drawn, codepoints[ids - 1]):
            raise VerificationError(f"{file}: its ids stand for other characters than its vocabulary's")


def _certify(weights: FoldedWeights, file: Path, info: ModelInfo) -> Certificate | None:
    if info.form == "table":
        return None
    return certify(
        weights, read_network(onnx.load_from_string(file.read_bytes()), info.block_size), file.name
    )


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
