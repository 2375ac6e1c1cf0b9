"""From names to streams of ids: vocabulary, distinct names, splits.

A stream is the names of one split, each followed by one boundary, as ids of one byte (two when V > 256).
Every id in it is one example: it is predicted from the ids before it. Nothing here loops over characters,
and nothing needs a Python object for each name.

Notation: N ids of a stream, V vocabulary size.
"""

import random
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from makemore_pl.data.distinct import first_equals
from makemore_pl.errors import DataError
from makemore_pl.reading.beside import Block, Gatherer
from makemore_pl.vocabulary import BOUNDARY, Vocabulary

MIN_NAMES = 8
"""Fewest names of which 80/10/10 leaves at least one to each split."""
SPLITS = ("train", "dev", "test")
"""Names to train on, to choose by, and to report."""

Stream = NDArray[np.integer]
"""Ids of names, each followed by one boundary: uint8 (N,), or int16 when V > 256, as PyTorch cannot compute
with uint16."""

Places = NDArray[np.integer]
"""Places in a stream, or numbers of names: int32 wherever that is enough, int64 otherwise."""


@dataclass(frozen=True)
class Corpus:
    """A list of names, ready to train on.

    Attributes:
        vocabulary: the characters of all names.
        streams: one stream for each of SPLITS.
        longest_name: in characters.
        labels: the different labels of the names, sorted; none: it is a list without.
        label_ids: for each split, the place in `labels` for each name, in the stream's type; empty without.
        weights: for each split, how often each name counts, float64; empty without.
        n_respelled: names of the list that were normalised.
    """

    vocabulary: Vocabulary
    streams: dict[str, Stream]
    longest_name: int
    labels: tuple[str, ...] = ()
    label_ids: dict[str, Stream] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    n_respelled: int = 0

    def names(self, split: str) -> list[str]:
        """The names of a split, as text."""
        codepoints = self.vocabulary.token_codepoints[self.streams[split]]
        return codepoints.astype("<i4").tobytes().decode("utf-32-le").split("\0")[:-1]


def build_corpus(blocks: Iterable[Block], *, dedupe: bool, seed: int, source: str = "the list") -> Corpus:
    """Encode a list of names, shuffle it, and cut it 80/10/10.

    Args:
        blocks: the names in the list's order, some at a time.
        dedupe: keep each name once, or once with each of its labels, so that no name stands in two splits;
            weights add up. False, with seed 42, gives the split of the makemore lectures exactly.
        seed: of Python's own generator.
        source: the list's name, for messages.

    Raises:
        DataError: too few names, or more different characters than two bytes can tell apart.
    """
    gatherer = Gatherer()
    vocabulary, stream = encode_names(gatherer.names(blocks))
    beside = gatherer.beside()
    stream = stream.astype(id_type(len(vocabulary) + len(beside.labels)), copy=False)
    starts, lengths = name_places(stream)
    numbers = np.arange(len(starts), dtype=starts.dtype)
    firsts = first_equals(stream, starts, lengths) if dedupe else numbers
    kept = numbers[firsts == numbers]
    if len(kept) < MIN_NAMES:
        different = " different" if dedupe else ""
        raise DataError(
            f"{source}: {len(kept)}{different} name{'s' * (len(kept) != 1)}; "
            f"at least {MIN_NAMES} are needed for the train, dev and test splits"
        )
    order = array("i" if kept.itemsize == 4 else "q", kept.tobytes())  # what Python's generator shuffles
    random.Random(seed).shuffle(order)
    parts = np.split(np.asarray(order), [int(0.8 * len(order)), int(0.9 * len(order))])
    if dedupe:
        beside, parts = beside.of_distinct(firsts, parts)
    del numbers, firsts, kept  # 12 bytes a name, for which the names' copies have a use
    streams, label_ids, weights = {}, {}, {}
    for split, part in zip(SPLITS, parts, strict=True):
        streams[split] = take_names(stream, starts[part], lengths[part])
        if beside.label_ids is not None:
            label_ids[split] = beside.label_ids[part].astype(stream.dtype)
        if beside.weights is not None:
            weights[split] = beside.weights[part]
    longest_name = int(lengths.max())
    return Corpus(vocabulary, streams, longest_name, beside.labels, label_ids, weights, gatherer.n_respelled)


def encode_names(blocks: Iterable[list[str]]) -> tuple[Vocabulary, Stream]:
    """Encode names in the given order.

    Returns:
        The vocabulary of all the names, and their stream.

    Raises:
        DataError: more different characters than two bytes can tell apart.
    """
    # Ids in the order of first appearance until all characters are known.
    provisional = np.zeros(sys.maxunicode + 1, dtype=np.int16)
    characters = ""
    parts: list[Stream] = []
    for names in blocks:
        text = "\0".join([*names, ""])  # NUL, which no name holds, stands for the boundary
        new = sorted({character for character in set(text) - {"\0"} if not provisional[ord(character)]})
        dtype = id_type(len(characters) + len(new) + 1)
        for number, character in enumerate(new, start=len(characters) + 1):
            provisional[ord(character)] = number
        characters += "".join(new)
        codepoints = np.frombuffer(text.encode("utf-32-le"), dtype="<i4")
        parts.append(provisional[codepoints].astype(dtype))
    vocabulary = Vocabulary(characters)
    final_ids: Stream = np.zeros(len(vocabulary), dtype=id_type(len(vocabulary)))
    final_ids[1:] = vocabulary.encode(characters)
    return vocabulary, final_ids[np.concatenate(parts)]


def id_type(vocab_size: int) -> type[np.uint8] | type[np.int16]:
    """The smallest type that holds all ids.

    Raises:
        DataError: two bytes do not hold them.
    """
    if vocab_size > 1 << 15:
        raise DataError(f"{vocab_size - 1:,} different characters and labels; at most 32,767 are supported")
    return np.uint8 if vocab_size <= 256 else np.int16


def name_ends(stream: Stream) -> NDArray[np.int64]:
    """The place of each name's boundary, int64 (names,)."""
    return np.flatnonzero(stream == BOUNDARY)


def name_places(stream: Stream) -> tuple[Places, Places]:
    """The place where each name of a stream begins, and its length in characters; both (names,)."""
    dtype = np.int32 if len(stream) < 1 << 31 else np.int64
    ends = name_ends(stream).astype(dtype)
    starts = np.concatenate([ends[:1] * 0, ends[:-1] + 1])
    return starts, ends - starts


def take_names(stream: Stream, starts: Places, lengths: Places, at_once: int = 1 << 18) -> Stream:
    """The stream of some names, in the given order.

    Args:
        stream: names.
        starts: (names,) where each of the wanted ones begins.
        lengths: (names,) in characters.
        at_once: names copied in one step; more take more memory.
    """
    taken = np.empty(int(lengths.sum()) + len(lengths), dtype=stream.dtype)
    end = 0
    for i in range(0, len(starts), at_once):
        sizes = lengths[i : i + at_once] + 1  # with the boundary
        ends = np.cumsum(sizes)
        # A place in the stream for each id: the name's start, then one further each time.
        places = np.repeat(starts[i : i + at_once] - ends + sizes, sizes) + np.arange(ends[-1])
        taken[end : end + len(places)] = stream[places]
        end += len(places)
    return taken
