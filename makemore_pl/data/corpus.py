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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import DataError
from makemore_pl.vocabulary import BOUNDARY, Vocabulary

MIN_NAMES = 8
"""Fewest names of which 80/10/10 leaves at least one to each split."""
SPLITS = ("train", "dev", "test")
"""Names to train on, to choose by, and to report."""

Stream = NDArray[np.integer]
"""Ids of names, each followed by one boundary: uint8 (N,), or int16 when V > 256: PyTorch computes with no
uint16."""


Places = NDArray[np.integer]
"""Places in a stream, or numbers of names: int32 wherever that is enough, int64 otherwise."""


@dataclass(frozen=True)
class Corpus:
    """A list of names, ready to train on.

    Attributes:
        vocabulary: the characters of all names.
        streams: one stream for each of SPLITS.
        longest_name: in characters.
    """

    vocabulary: Vocabulary
    streams: dict[str, Stream]
    longest_name: int

    def names(self, split: str) -> list[str]:
        """The names of a split, as text."""
        codepoints = self.vocabulary.token_codepoints[self.streams[split]]
        return codepoints.astype("<i4").tobytes().decode("utf-32-le").split("\0")[:-1]

    def with_vocabulary(self, vocabulary: Vocabulary) -> "Corpus":
        """The same names in the ids of another vocabulary.

        Raises:
            VocabularyError: a name has a character outside of it.
        """
        if vocabulary == self.vocabulary:
            return self
        streams = {
            split: translate(stream, self.vocabulary, vocabulary) for split, stream in self.streams.items()
        }
        return Corpus(vocabulary, streams, self.longest_name)


def build_corpus(blocks: Iterable[list[str]], *, dedupe: bool, seed: int, source: str = "the list") -> Corpus:
    """Encode a list of names, shuffle it, and cut it 80/10/10.

    Args:
        blocks: the names in the list's order, some at a time.
        dedupe: keep each name once, so that no name stands in two splits. False, with seed 42, gives
            the split of the makemore lectures exactly.
        seed: of Python's own generator.
        source: the list's name, for messages.

    Raises:
        DataError: too few names, or more different characters than two bytes can tell apart.
    """
    vocabulary, stream = encode_names(blocks)
    starts, lengths = name_places(stream)
    order = _shuffled_numbers(stream, starts, lengths, dedupe, seed)
    if len(order) < MIN_NAMES:
        different = " different" if dedupe else ""
        raise DataError(
            f"{source}: {len(order)}{different} name{'s' * (len(order) != 1)}; "
            f"at least {MIN_NAMES} are needed for the train, dev and test splits"
        )
    cuts = [int(0.8 * len(order)), int(0.9 * len(order))]
    streams = {
        split: take_names(stream, starts[part], lengths[part])
        for split, part in zip(SPLITS, np.split(order, cuts), strict=True)
    }
    return Corpus(vocabulary, streams, int(lengths.max()))


def name_places(stream: Stream) -> tuple[Places, Places]:
    """Where each name begins in a stream, and its length in characters; both (names,)."""
    ends = boundaries(stream)
    starts = np.concatenate([ends[:1] * 0, ends[:-1] + 1])
    return starts, ends - starts


def _shuffled_numbers(stream: Stream, starts: Places, lengths: Places, dedupe: bool, seed: int) -> Places:
    """Numbers of the names in the order of the splits; each different name's once, or all."""
    chosen = (
        first_occurrences(stream, starts, lengths) if dedupe else np.arange(len(starts), dtype=starts.dtype)
    )
    order = array("i" if chosen.itemsize == 4 else "q", chosen.tobytes())
    random.Random(seed).shuffle(order)
    return np.asarray(order)


def id_type(vocab_size: int) -> type[np.uint8] | type[np.int16]:
    """The smallest type that holds all ids."""
    if vocab_size > 1 << 15:
        raise DataError(f"{vocab_size - 1:,} different characters; at most 32,767 are supported")
    return np.uint8 if vocab_size <= 256 else np.int16


def encode_names(blocks: Iterable[list[str]]) -> tuple[Vocabulary, Stream]:
    """The vocabulary of some names, and their stream in the given order.

    Raises:
        DataError: more different characters than two bytes can tell apart.
    """
    # Ids in the order of first appearance until all characters are known.
    provisional = np.zeros(sys.maxunicode + 1, dtype=np.int16)
    characters = ""
    parts: list[Stream] = []
    for names in blocks:
        text = "\0".join([*names, ""])  # NUL, which no name holds, stands for the boundary
        new = "".join(sorted(character for character in set(text) if not provisional[ord(character)])).strip(
            "\0"
        )
        dtype = id_type(len(characters) + len(new) + 1)
        for number, character in enumerate(new, start=len(characters) + 1):
            provisional[ord(character)] = number
        characters += new
        codepoints = np.frombuffer(text.encode("utf-32-le"), dtype="<i4")
        parts.append(provisional[codepoints].astype(dtype))
    vocabulary = Vocabulary(characters)
    ids = np.zeros(len(vocabulary), dtype=id_type(len(vocabulary)))  # final id of each provisional one
    ids[1:] = vocabulary.encode(characters)
    stream = np.empty(sum(map(len, parts)), dtype=ids.dtype)
    end = len(stream)
    while parts:  # freed one by one: the list is not held twice
        part = parts.pop()
        stream[end - len(part) : end] = ids[part]
        end -= len(part)
    return vocabulary, stream


def boundaries(stream: Stream) -> Places:
    """Where the names of a stream end, (names,)."""
    # Half the memory, for all but lists of billions of characters.
    dtype = np.int32 if len(stream) < 1 << 31 else np.int64
    at_once = 1 << 24
    parts = [
        (np.flatnonzero(stream[i : i + at_once] == BOUNDARY) + i).astype(dtype)
        for i in range(0, len(stream), at_once)
    ]
    return np.concatenate(parts)


def translate(stream: Stream, old: Vocabulary, new: Vocabulary) -> Stream:
    """A stream in the ids of another vocabulary.

    Raises:
        VocabularyError: `new` lacks a character of `old`.
    """
    new_ids: Stream = np.zeros(len(old), dtype=id_type(len(new)))  # the boundary's stays 0
    new_ids[1:] = new.encode(old.characters)
    return new_ids[stream]


def first_occurrences(stream: Stream, starts: Places, lengths: Places) -> Places:
    """Numbers of the names that no earlier name equals, rising, in the type of `starts`.

    Args:
        stream: names.
        starts: (names,) where each begins.
        lengths: (names,) in characters, at least 1.
    """
    firsts = []
    by_length = np.argsort(lengths.astype(np.uint16), kind="stable").astype(starts.dtype)
    cuts = np.flatnonzero(np.diff(lengths[by_length])) + 1
    for members in np.split(by_length, cuts):  # names of one length
        length = int(lengths[members[0]])
        # (stream, length) a view of the name that would start at each place -> (members, length)
        rows: Stream = np.lib.stride_tricks.sliding_window_view(stream, length)[starts[members]]
        firsts.append(members[_first_rows(rows)])
    found = np.concatenate(firsts)
    found.sort()
    return found


def _first_rows(rows: Stream) -> NDArray[np.int64]:
    """Numbers of the rows (n, length) that no earlier row equals."""
    words = np.zeros((len(rows), -(-rows.shape[1] * rows.itemsize // 8)), dtype=np.uint64)
    words.view(rows.dtype)[:, : rows.shape[1]] = rows  # (n, length) -> (n, bytes / 8)
    hashes = _hash_rows(words)
    order = np.argsort(hashes)
    same_hash = hashes[order[1:]] == hashes[order[:-1]]
    same_row = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    if (same_hash & ~same_row).any():  # two names of one hash, about once in 10^19 pairs: sort the names
        order = np.lexsort(words.T)
        same_row = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    groups = np.flatnonzero(np.concatenate([[True], ~same_row]))
    return np.minimum.reduceat(order, groups)


def _hash_rows(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A number for each row (n, words); of one word, no two rows share theirs."""
    hashes = np.zeros(len(words), dtype=np.uint64)
    for word in words.T:
        hashes = (hashes ^ word) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: one to one
        hashes ^= hashes >> np.uint64(32)
    return hashes


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
