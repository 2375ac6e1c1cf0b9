"""The numbers of a report: likelihoods beside those of counting, continuations, a look inside."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from makemore_pl.inspect.measures import Snapshot
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.report.characters import BOUNDARY_SIGN, visible
from makemore_pl.report.sources import Material
from makemore_pl.studies.ngrams import kneser_ney
from makemore_pl.vocabulary import BOUNDARY

CHUNK = 65_536
"""Examples computed at a time."""
LONGEST_COUNTED = 5
"""Longest context that is counted: beyond it little is left to count."""
LIKELIEST = 8
"""Continuations shown after each context."""
CONTEXTS_SHOWN = 6
SAMPLE = 2_048
"""Examples looked at inside the network: about a default batch."""


@torch.inference_mode()
def nll(model: BatchNormMLP, contexts: Tensor, targets: Tensor) -> float:
    """Mean negative log-likelihood in nats per character: contexts int64 (N, T), targets int64 (N,)."""
    total = sum(
        F.cross_entropy(
            model(contexts[i : i + CHUNK]).double(), targets[i : i + CHUNK], reduction="sum"
        ).item()
        for i in range(0, len(targets), CHUNK)
    )
    return total / len(targets)


def nll_of_counting(material: Material) -> dict[int, tuple[float, float]]:
    """NLL of dev and test by Kneser-Ney counts, by the number of characters that the next one depends on."""
    if material.training_examples is None:
        return {}
    splits = [material.examples(split) for split in ("dev", "test")]
    both = torch.cat([contexts for contexts, _ in splits]), torch.cat([targets for _, targets in splits])
    longest = min(material.model.block_size, LONGEST_COUNTED)
    found = {}
    for n_context in sorted({0, 1, longest}):
        losses = -np.log(kneser_ney(material.training_examples, both, n_context, material.model.vocab_size))
        dev, test = np.split(losses, [len(splits[0][1])])
        found[n_context] = float(dev.mean()), float(test.mean())
    return found


class Next(NamedTuple):
    """One continuation: a character, its probability, and its share in the list (None: not known)."""

    character: str
    probability: float
    share: float | None


class Continuations(NamedTuple):
    """The likeliest next characters after one context, which stood `seen` times in the training list."""

    context: str
    seen: int | None
    likeliest: list[Next]


def nll_by_label(material: Material) -> dict[str, list[float | None]]:
    """NLL of dev and test for each label's names; None where a split has none; empty without labels."""
    if material.data is None or not material.checkpoint.labels:
        return {}
    figures: dict[str, list[float | None]] = {label: [] for label in material.checkpoint.labels}
    for split in ("dev", "test"):
        contexts, targets = material.examples(split)
        for number, label in enumerate(figures):
            own = contexts[:, 0] == material.model.vocab_size + number
            figures[label].append(nll(material.model, contexts[own], targets[own]) if own.any() else None)
    return figures


def commonest_label(material: Material) -> str | None:
    """The label that most training names have; None without labels."""
    shares = material.checkpoint.data["label_shares"]
    return material.checkpoint.labels[int(np.argmax(shares))] if shares else None


@torch.inference_mode()
def continuations(material: Material, made_up: list[str]) -> list[Continuations]:
    """For the start of a name, and the commonest contexts of one, two and three letters.

    Of a list with labels, among the names of the commonest one.
    """
    model, characters = material.model, material.vocabulary.characters
    names = material.data.corpus.names("train") if material.data is not None else made_up
    signs = ["end", *map(visible, characters)]
    label = commonest_label(material)
    before = [] if label is None else [model.vocab_size + material.checkpoint.labels.index(label)]
    shown = []
    for text in common_contexts(names, model.block_size):
        ids = [BOUNDARY] * model.block_size + material.vocabulary.encode(text).tolist()
        context = torch.tensor([[*before, *ids[-model.block_size :]]])  # (1, P)
        probabilities = model(context).double().softmax(dim=1)[0]  # (V,)
        shares, count = None, None
        if material.training_examples is not None:
            contexts, targets = material.training_examples
            followed = targets[(contexts == context).all(dim=1)]
            count = len(followed)
            shares = torch.bincount(followed, minlength=model.vocab_size) / max(1, count)  # (V,)
        top = probabilities.topk(min(LIKELIEST, len(probabilities))).indices.tolist()
        likeliest = [
            Next(signs[i], probabilities[i].item(), None if shares is None else shares[i].item()) for i in top
        ]
        written = BOUNDARY_SIGN * (model.block_size - len(text)) + "".join(map(visible, text))
        shown.append(Continuations(written, count, likeliest))
    return shown


def common_contexts(names: list[str], block_size: int) -> list[str]:
    """List the empty context, and the commonest starts or insides of names, of up to three letters."""
    length = min(3, block_size)
    chosen = [""]
    for n in range(1, length):
        chosen += [text for text, _ in Counter(name[:n] for name in names if len(name) > n).most_common(1)]
    # A context longer than three letters is padded: the start of a name.
    pieces = (
        name[i : i + length]
        for name in names
        for i in (range(len(name) - length + 1) if length == block_size else [0])
        if len(name) >= length
    )
    ends: set[str] = set()
    for text, _ in Counter(pieces).most_common():
        if len(chosen) == CONTEXTS_SHOWN:
            break
        if text[-1] not in ends:  # different endings are more telling than the very commonest
            ends.add(text[-1])
            chosen.append(text)
    return chosen


def look_inside(material: Material) -> Snapshot | None:
    """Measure layers and gradients in one forward and backward pass on a sample of the training split.

    BatchNorm normalises the sample itself, as in training; Dropout is left off. The material's own network is
    not touched. None where the list is not available.
    """
    if material.training_examples is None:
        return None
    contexts, targets = material.training_examples
    chosen = torch.randperm(len(targets), generator=torch.Generator().manual_seed(42))[:SAMPLE]
    model = material.checkpoint.load_model()
    for layer in model.modules():
        layer.train(not isinstance(layer, nn.Dropout))
    return take_snapshot(model, contexts[chosen], targets[chosen], material.checkpoint.global_step)
