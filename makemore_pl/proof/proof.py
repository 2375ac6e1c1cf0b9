"""The steps of the proof for one model: trained → folded in float64 → folded in float32 → files."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import onnx
from torch import nn

from makemore_pl.errors import VerificationError
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.certificate import Certificate, certify
from makemore_pl.proof.contexts import ContextSet
from makemore_pl.proof.logits import (
    FLOAT64,
    Candidate,
    Check,
    compare,
    compare_batch_sizes,
    describe_context,
    float32_tolerance,
    module_logits,
)
from makemore_pl.proof.names import SameNames, compare_names
from makemore_pl.proof.network_reader import expect_same_graph, stored_network
from makemore_pl.proof.progress import chunks_with_progress
from makemore_pl.runtime.engines import GraphSampler, NextCharacterModel, open_engine
from makemore_pl.runtime.metadata import Form, ModelInfo

OF_EACH_FILE = ("form", "versions", "verification")
"""Metadata in which the files of one model may differ."""


@dataclass(frozen=True)
class Report:
    """The proof's findings. Stored as `verification.json`.

    Attributes:
        contexts: number of contexts compared.
        total: number of contexts there are, V^T.
        checks: one for each form of the model, then those of the small batch sizes.
        certificate: a bound that holds after every context; None where no file stores a network, only logits,
            which are then compared one by one.
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
        """The part of the report that the exported file itself holds."""
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


def prove(
    trained: BatchNormMLP,
    folded: nn.Sequential,
    info: ModelInfo,
    contexts: ContextSet,
    files: Sequence[Path],
) -> Report:
    """Show that the files compute what the trained model computes.

    Args:
        trained: the trained model, float32, in eval mode.
        folded: its layers as `fold` gives them, float64.
        info: the metadata that the files should hold; form, versions and proof are their own.
        contexts: on which logits are compared.
        files: a `model.onnx`, a `sampler.onnx`, or both.

    Raises:
        ModelFileError: a file cannot be opened.
        FormError: a file claims a form that does not suit the network.
        VerificationError: some form of the model is not the trained one.
    """
    weights = FoldedWeights.from_layers(folded)
    tolerance = float32_tolerance(weights)
    reference = module_logits(copy.deepcopy(trained).double())
    candidates = [
        Candidate("folded in float64", module_logits(folded), FLOAT64),
        Candidate("folded in float32", module_logits(copy.deepcopy(folded).float()), tolerance),
    ]
    models: list[Candidate] = []
    samplers: list[GraphSampler] = []
    certificate = None
    for file in files:
        engine = open_engine(file)
        form = cast(Form, engine.info.form)
        stored = onnx.load_from_string(file.read_bytes())
        if isinstance(engine, NextCharacterModel):
            expect_same_graph(stored, build_model(weights, form), file.name)
            if form != "table":
                certificate = certify(weights, stored_network(stored, weights, form))
            models.append(Candidate(file.name, engine.next_logits, tolerance))
        else:
            codepoints = info.vocabulary.token_codepoints
            expect_same_graph(stored, build_sampler(weights, form, codepoints), file.name)
            # As the runtime opens it for many calls, and for one: tables computed at load, or in the call.
            samplers += [engine, cast(GraphSampler, open_engine(file, prepare=False))]
        _expect_same_info(engine.info, info, file)

    checks = compare(reference, [*candidates, *models], chunks_with_progress(contexts))
    for model in models:
        checks += compare_batch_sizes(reference, model, contexts)
    steps = 2 * info.longest_name
    sizes = (trained.vocab_size, trained.block_size)
    names = [compare_names(s.generate_tokens, reference, *sizes, steps, tolerance) for s in samplers]
    return Report(
        contexts=len(contexts),
        total=contexts.total,
        checks=checks,
        certificate=certificate,
        names=max(names, key=lambda found: found.borderline) if names else None,
        characters=info.characters,
    )


def _expect_same_info(found: ModelInfo, info: ModelInfo, file: Path) -> None:
    for key, due in asdict(info).items():
        value = getattr(found, key)
        if value != due and key not in OF_EACH_FILE:
            raise VerificationError(f"{file}: of another model ({key} is {value!r}, expected {due!r})")
