"""A corpus in the ids of another vocabulary, or other labels: a checkpoint that is tested on another list."""

from dataclasses import replace

import numpy as np

from makemore_pl.data.corpus import Corpus, Stream, id_type
from makemore_pl.errors import DataError
from makemore_pl.vocabulary import Vocabulary


def with_ids_of(corpus: Corpus, characters: str | None, labels: list[str] | None) -> Corpus:
    """The same names in the ids of another vocabulary, of other labels, or of both.

    Args:
        corpus: names and labels.
        characters: of the other vocabulary; None or empty: its own.
        labels: the others, sorted; None: its own.

    Raises:
        VocabularyError: a name has a character outside of it.
        DataError: a name has a label outside of them, or none.
    """
    vocabulary = Vocabulary(characters) if characters else corpus.vocabulary
    known = corpus.labels if labels is None else tuple(labels)
    if vocabulary == corpus.vocabulary and known == corpus.labels:
        return corpus
    dtype = id_type(len(vocabulary) + len(known))
    if known != corpus.labels:
        unknown = [label for label in corpus.labels if label not in known]
        if unknown or not corpus.labels:
            model = f"the labels {', '.join(map(repr, known[:20]))}" if known else "no labels"
            found = f"the label {unknown[0]!r}" if unknown else "none: give data.label_column"
            raise DataError(f"the model was trained on names with {model}; this list has {found}")
    numbers: Stream = np.array([known.index(label) for label in corpus.labels], dtype=dtype)
    label_ids: dict[str, Stream] = {split: numbers[ids] for split, ids in corpus.label_ids.items()}
    streams: dict[str, Stream] = {
        split: translate(stream, corpus.vocabulary, vocabulary).astype(dtype, copy=False)
        for split, stream in corpus.streams.items()
    }
    return replace(corpus, vocabulary=vocabulary, streams=streams, labels=known, label_ids=label_ids)


def translate(stream: Stream, old: Vocabulary, new: Vocabulary) -> Stream:
    """A stream in the ids of another vocabulary.

    Raises:
        VocabularyError: `new` lacks a character of `old`.
    """
    new_ids: Stream = np.zeros(len(old), dtype=id_type(len(new)))  # the boundary's stays 0
    new_ids[1:] = new.encode(old.characters)
    return new_ids[stream]
