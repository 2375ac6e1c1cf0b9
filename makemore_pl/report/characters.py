"""The characters of a report: how each is shown, and where its embedding lies."""

import unicodedata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from makemore_pl.model.network import BatchNormMLP
from makemore_pl.vocabulary import Vocabulary

BOUNDARY_SIGN, SPACE_SIGN = "■", "␣"
"""The start and end of a name, unlike any full stop or middle dot in one; and a space, which is invisible."""


class EmbeddingMap(NamedTuple):
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
    embedding = embedding[: len(vocabulary)]  # those of labels are no characters
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
