"""The steps of the proof for one model: trained → folded in float64 → folded in float32 → files."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from torch import nn

from makemore_pl.exported.metadata import Form, ModelInfo
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.certificate import Certificate, certify
from makemore_pl.proof.contexts import ContextSet
from makemore_pl.proof.logits import (
    FLOAT64,
    Candidate,
    Logits,
    compare,
    compare_batch_sizes,
    float32_tolerance,
    module_logits,
)
from makemore_pl.proof.names import Generate, compare_names
from makemore_pl.proof.network_reader import StoredFile, form_of, read_stored, stored_network
from makemore_pl.proof.progress import chunks_with_progress
from makemore_pl.proof.proof_report import Report
from makemore_pl.proof.stored_metadata import expect_same_claim, expect_same_info
from makemore_pl.proof.trials import trials
from makemore_pl.runtime.engines import GraphSampler, NextCharacterModel, open_engine


def prove(
    trained: BatchNormMLP,
    folded: nn.Sequential,
    info: ModelInfo,
    contexts: ContextSet,
    files: Sequence[Path],
    *,
    recorded: bool = False,
) -> Report:
    """Show that the files compute what the trained model computes.

    Args:
        trained: the trained model, float32, in eval mode.
        folded: its layers as `fold` gives them, float64.
        info: the metadata that the files should hold; form, versions and proof are their own.
        contexts: on which logits are compared.
        files: a `model.onnx`, a `sampler.onnx`, or both.
        recorded: the files' metadata tell of an earlier proof, which is compared with this one.

    Raises:
        ModelFileError: a file cannot be opened.
        VerificationError: some form of the model is not the trained one.
    """
    weights = FoldedWeights.from_layers(folded)
    tolerance = float32_tolerance(weights)
    reference = module_logits(copy.deepcopy(trained).double())
    candidates = [
        Candidate("folded in float64", module_logits(folded), FLOAT64),
        Candidate("folded in float32", module_logits(copy.deepcopy(folded).float()), tolerance),
    ]
    codepoints = info.vocabulary.token_codepoints
    forms: list[tuple[StoredFile, Form]] = []
    models: list[Candidate] = []
    samplers: list[Generate] = []
    certificate = None
    for path in files:
        stored = read_stored(path)
        if stored.is_sampler:
            form = form_of(stored, lambda form: build_sampler(weights, form, codepoints))
        else:
            form = form_of(stored, lambda form: build_model(weights, form))
        expect_same_info(stored, info, form)
        forms.append((stored, form))
        engine = open_engine(path, content=stored.content)
        if isinstance(engine, NextCharacterModel):
            certificate = _certificate(weights, form, stored.model)
            models.append(Candidate(path.name, engine.next_logits, tolerance))
        else:
            # As the runtime uses it: tables computed at load, or in the call; or all logits taken, from the
            # file or from `model.onnx` beside it.
            in_call = open_engine(path, prepare=False, content=stored.content)
            samplers += [engine.generate_all, cast(GraphSampler, in_call).generate_all]
            if engine.tables is not None and engine.tables.hold_all:
                samplers.append(engine.generate_by_tables)

    checks = compare(reference, [*candidates, *models], chunks_with_progress(contexts))
    for model in models:
        checks += compare_batch_sizes(reference, model, contexts)
    steps = 2 * info.longest_name
    names = None
    if samplers:
        names = compare_names(
            samplers,
            trials(weights, steps),
            _looked_up(reference, weights) if weights.is_enumerable else reference,
            trained.block_size,
            codepoints,
            tolerance,
        )
    report = Report(
        contexts=len(contexts),
        total=contexts.total,
        checks=checks,
        certificate=certificate,
        names=names,
        characters=info.characters,
        labels=info.labels,
        list_missing=contexts.list_missing,
    )
    for stored, form in forms if recorded else ():
        summary = report.summary() | {"names": sum(trial.n for trial in trials(weights, steps))}
        if contexts.list_missing:
            summary["contexts"] = None
        either: tuple[Form, ...] = ("mlp", form)  # of the export's model.onnx
        bounds = [_certificate(weights, f, build_model(weights, f)) for f in either]
        expect_same_claim(stored, summary, [bound.total if bound else None for bound in bounds], tolerance)
    return report


def _certificate(weights: FoldedWeights, form: Form, model: onnx.ModelProto) -> Certificate | None:
    """The bound of a `model.onnx`; None for form `table`, each of whose logits is compared by itself."""
    return None if form == "table" else certify(weights, stored_network(model, weights, form))


def _looked_up(reference: Logits, weights: FoldedWeights) -> Logits:
    """The same logits, all computed beforehand: names are then drawn many times faster."""
    space = weights.space
    table = reference(space.contexts(np.arange(space.total)))  # (contexts, P) -> (contexts, V)
    return lambda contexts: table[space.numbers(contexts)]
