"""Large lists are encoded once: their streams are kept in the user's cache and mapped into memory."""

import contextlib
import hashlib
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
from filelock import FileLock

from makemore_pl.data.corpus import SPLITS, Corpus, build_corpus
from makemore_pl.data.lists import NameList
from makemore_pl.data.makemore_list import cache_dir
from makemore_pl.vocabulary import Vocabulary

CACHED_FROM = 1 << 22
"""Lists of at least so many bytes are cached; smaller ones take less than a second to encode."""
FORMAT = 2
"""Increased whenever the same list would give other streams."""


def open_corpus(names: NameList, *, dedupe: bool, seed: int) -> Corpus:
    """Read the corpus of a list from the cache, or build it, and cache it if the list is large.

    One process builds it; others that want it, the ranks of one training say, wait and share its memory.

    Args:
        names: the list.
        dedupe: as in `build_corpus`.
        seed: as in `build_corpus`.

    Raises:
        DataError: as `build_corpus`.
    """

    def build() -> Corpus:
        return build_corpus(names.blocks(), dedupe=dedupe, seed=seed, source=str(names.file))

    if names.file.stat().st_size < CACHED_FROM:
        return build()
    key = hashlib.sha256(f"{FORMAT} {names.sha256} {dedupe} {seed}".encode()).hexdigest()[:32]
    try:
        folder = cache_dir() / "corpora" / key
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_suffix(".lock"))
        lock.acquire()
    except OSError:  # no cache, or one that cannot be written: in a container, say
        return build()
    with lock:
        if (cached := _load(folder)) is not None:
            return cached
        corpus = build()
        with contextlib.suppress(OSError):  # the disk is full, say: the corpus is used from memory
            _save(corpus, folder)
        return _load(folder) or corpus


def _save(corpus: Corpus, folder: Path) -> None:
    """Write beside and rename, so that the folder is complete or absent. The lock must be held."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of a killed process
    try:
        part.mkdir()
        for split in SPLITS:
            np.save(part / f"{split}.npy", corpus.streams[split])
        about = {
            "characters": corpus.vocabulary.characters,
            "longest_name": corpus.longest_name,
            "checksum": _checksum(corpus),
        }
        (part / "corpus.json").write_text(json.dumps(about) + "\n")
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _load(folder: Path) -> Corpus | None:
    """The corpus in `folder`; None where there is none, or a damaged one."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, EOFError):
        about = json.loads((folder / "corpus.json").read_text())
        # "c": pages are read when they are touched, and a change, which nobody makes, would stay private.
        streams = {split: np.load(folder / f"{split}.npy", mmap_mode="c") for split in SPLITS}
        corpus = Corpus(Vocabulary(about["characters"]), streams, about["longest_name"])
        if _checksum(corpus) == about["checksum"]:
            return corpus
    return None


def _checksum(corpus: Corpus) -> int:
    """CRC-32 of all of it, in a fraction of the time that the list's own hash takes."""
    checksum = zlib.crc32(f"{corpus.longest_name} {corpus.vocabulary.characters}".encode())
    for split in SPLITS:
        checksum = zlib.crc32(corpus.streams[split].data, checksum)
    return checksum
