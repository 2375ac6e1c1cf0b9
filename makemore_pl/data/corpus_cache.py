"""Large lists are encoded once: their streams are kept in the user's cache and mapped into memory."""

import contextlib
import hashlib
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from makemore_pl.data.corpus import SPLITS, Corpus, build_corpus
from makemore_pl.data.lists import NameList
from makemore_pl.data.makemore_list import cache_dir
from makemore_pl.vocabulary import Vocabulary

CACHED_FROM = 1 << 22
"""Lists of at least so many bytes are cached; smaller ones take less than a second to encode."""
FORMAT = 3
"""Increased whenever the same list would give other streams."""
ARRAYS = ("streams", "label_ids", "weights")
"""Those fields of a corpus that have an array for each split, or for none."""


def open_corpus(names: NameList, *, dedupe: bool, seed: int) -> Corpus:
    """Read the corpus of a list from the cache, or build it with `build_corpus`; cache it if it is large.

    One process builds it; others that want it, the ranks of one training say, wait and share its memory.
    """

    def build() -> Corpus:
        return build_corpus(names.blocks(), dedupe=dedupe, seed=seed, source=str(names.file))

    if names.file.stat().st_size < CACHED_FROM:
        return build()
    settings = (FORMAT, names.sha256, names.is_table, names.columns, names.rules, dedupe, seed)
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:32]
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
        for field in ARRAYS:
            for split, values in getattr(corpus, field).items():
                np.save(part / f"{split}.{field}.npy", values)
        about = {
            "characters": corpus.vocabulary.characters,
            "longest_name": corpus.longest_name,
            "labels": corpus.labels,
            "n_respelled": corpus.n_respelled,
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
        arrays: dict[str, dict[str, Any]] = {
            field: {
                split: np.load(file, mmap_mode="c")
                for split in SPLITS
                if (file := folder / f"{split}.{field}.npy").is_file()
            }
            for field in ARRAYS
        }
        corpus = Corpus(
            Vocabulary(about["characters"]),
            longest_name=about["longest_name"],
            labels=tuple(about["labels"]),
            n_respelled=about["n_respelled"],
            **arrays,
        )
        if _checksum(corpus) == about["checksum"]:
            return corpus
    return None


def _checksum(corpus: Corpus) -> int:
    """CRC-32 of all of it, in a fraction of the time that the list's own hash takes."""
    about = (corpus.longest_name, corpus.vocabulary.characters, corpus.labels, corpus.n_respelled)
    checksum = zlib.crc32(repr(about).encode())
    for field in ARRAYS:
        for split in SPLITS:
            checksum = zlib.crc32(getattr(corpus, field).get(split, np.empty(0)).data, checksum)
    return checksum
