"""The numbers of a report: likelihoods on the splits, embedding map, continuations."""

import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from makemore_pl.model.network import BatchNormMLP
from makemore_pl.report.sources import Material
from makemore_pl.vocabulary import BOUNDARY, Vocabulary

CHUNK = 65_536
"""Examples computed at a time."""
BOUNDARY_SIGN, SPACE_SIGN = "·", "␣"
LIKELIEST = 8
"""Continuations shown after each context."""
CONTEXTS_SHOWN = 6


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


@dataclass(frozen=True)
class EmbeddingMap:
    """The place of each character, in two dimensions.

    Attributes:
        points: float64 (V, 2).
        labels: what is written there, one for each id.
        vowels: which of them are vowels, of alphabets that have letters for them.
        variance: share of the variance that each axis holds, or None where the embedding has 2 dimensions.
    """

    points: NDArray[np.float64]
    labels: list[str]
    vowels: list[bool]
    variance: tuple[float, float] | None


def embedding_map(model: BatchNormMLP, vocabulary: Vocabulary) -> EmbeddingMap:
    """The embedding as it is where it has two dimensions, else its two principal components."""
    embedding = model.state_dict()["layers.embedding.weight"].double().numpy()  # (V, C)
    labels = [BOUNDARY_SIGN, *map(visible, vocabulary.characters)]
    vowels = [False, *map(is_vowel, vocabulary.characters)]
    if embedding.shape[1] <= 2:
        points = np.zeros((len(embedding), 2))
        points[:, : embedding.shape[1]] = embedding
        return EmbeddingMap(points, labels, vowels, None)
    centred = embedding - embedding.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    shares = s**2 / max(float((s**2).sum()), np.finfo(np.float64).tiny)
    return EmbeddingMap(u[:, :2] * s[:2], labels, vowels, (float(shares[0]), float(shares[1])))


def visible(character: str) -> str:
    """A character as it can be seen alone: a space has a sign, a combining mark a circle to stand on."""
    if character.isspace():
        return SPACE_SIGN
    return f"◌{character}" if unicodedata.combining(character) else character


def is_vowel(character: str) -> bool:
    """True for vowels of the Latin, Greek and Cyrillic alphabets, with or without accents."""
    base = unicodedata.normalize("NFD", character.casefold())[0]
    return base in "aeiouyæøœıαεηιουωаеиоуыэюяєії"


@dataclass(frozen=True)
class Next:
    """One continuation: a character, its probability, and its share in the list (None: not known)."""

    character: str
    probability: float
    share: float | None


@dataclass(frozen=True)
class Continuations:
    """The likeliest next characters after one context, which stood `count` times in the training list."""

    context: str
    count: int | None
    likeliest: list[Next]

    @property
    def most(self) -> float:
        """The largest probability or share."""
        return max(max(following.probability, following.share or 0) for following in self.likeliest)


@torch.inference_mode()
def continuations(material: Material, made_up: list[str]) -> list[Continuations]:
    """For the start of a name, and the commonest contexts of one, two and three letters."""
    model, characters = material.model, material.vocabulary.characters
    names = material.data.corpus.names("train") if material.data is not None else made_up
    shown = []
    for text in common_contexts(names, model.block_size):
        ids = [0] * model.block_size + material.vocabulary.encode(text).tolist()
        context = torch.tensor([ids[-model.block_size :]])  # (1, T)
        probabilities = model(context).double().softmax(dim=1)[0]  # (V,)
        shares, count = _shares(material, context)
        top = probabilities.topk(min(LIKELIEST, len(probabilities))).indices.tolist()
        likeliest = [
            Next(
                "end" if i == BOUNDARY else visible(characters[i - 1]),
                probabilities[i].item(),
                None if shares is None else shares[i].item(),
            )
            for i in top
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


def _shares(material: Material, context: Tensor) -> tuple[Tensor | None, int | None]:
    """Shares (V,) of the characters that followed a context in the training list, and its count there."""
    if material.training_examples is None:
        return None, None
    contexts, targets = material.training_examples
    followed = targets[(contexts == context).all(dim=1)]
    counts = torch.bincount(followed, minlength=material.model.vocab_size)
    return counts / max(1, len(followed)), len(followed)
