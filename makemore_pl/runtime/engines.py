"""The two kinds of exported file behind one interface: names from uniform draws."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from makemore_pl.errors import ModelFileError
from makemore_pl.runtime.decoding import Decoding, sample_stepwise
from makemore_pl.runtime.metadata import MODEL_FILE, SAMPLER_FILE, ModelInfo, newest_export
from makemore_pl.runtime.session import expect_signature, open_session, run_session

NO_NUMBERS = "the model's file is damaged: its log-likelihoods are no numbers"
"""What is said of a file whose weights are no numbers."""
NAMES_PER_THREAD = 1_000
"""Fewest names that are worth a thread of their own."""
STEPWISE_ENTRIES = 1 << 21
"""Entries of a matrix at a time, where names are drawn step by step: bounds memory in wide vocabularies."""
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

SAMPLER_INPUTS: dict[str, list[int | None]] = {
    "uniforms": [None, None],
    "prefix": [None],
    "temperature": [],
    "top_k": [],
    "top_p": [],
    "min_length": [],
}
SAMPLER_OUTPUTS: dict[str, list[int | None]] = {
    "tokens": [None, None],
    "codepoints": [None, None],
    "log_prob": [None],
}


Part: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Code points (n, length), 0 after the end, and log-likelihoods (n,)."""


class Engine(Protocol):
    """Anything that turns uniforms into names. Safe to call from many threads: a session keeps no state."""

    info: ModelInfo

    def generate(
        self, uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Code points int32 (n, length), 0 after the end, and log_prob float32 (n,) of n names.

        Args:
            uniforms: float32 (n, steps), one draw per character.
            prefix: int64 (p,), ids at the start of every name.
            decoding: how each character is drawn.
        """


class NextCharacterModel:
    """`model.onnx`: logits of the next character; names are drawn step by step with NumPy."""

    def __init__(self, session: ort.InferenceSession, info: ModelInfo, path: Path) -> None:
        vocab_size = len(info.characters) + 1
        expect_signature(session, path, {"context": [None, info.block_size]}, {"logits": [None, vocab_size]})
        self.info = info
        self._session = session
        self._path = path
        self._codepoints = info.vocabulary.token_codepoints
        # Its matrices in NumPy, some of V and some of T columns, stay within 100 MiB or so.
        self._rows = max(1, STEPWISE_ENTRIES // (vocab_size + info.block_size))

    def next_logits(self, context: NDArray[np.int64]) -> NDArray[np.float32]:
        """context int64 (n, T) -> logits float32 (n, V)."""
        logits: NDArray[np.float32] = run_session(
            self._session, self._path, ["logits"], {"context": context}
        )[0]
        return logits

    def generate(
        self, uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        parts = []
        for start in range(0, max(1, len(uniforms)), self._rows):
            part = uniforms[start : start + self._rows]
            tokens, log_prob = sample_stepwise(self.next_logits, self.info.block_size, part, prefix, decoding)
            parts.append((self._codepoints[tokens], log_prob))
        return _together(parts)


class GraphSampler:
    """`sampler.onnx`: the whole loop inside the graph; one call makes all names."""

    def __init__(self, session: ort.InferenceSession, info: ModelInfo, path: Path) -> None:
        expect_signature(session, path, SAMPLER_INPUTS, SAMPLER_OUTPUTS)
        self.info = info
        self._session = session
        self._path = path

    def generate(
        self, uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        def run(part: NDArray[np.float32]) -> Part:
            feeds = self._feeds(part, prefix, decoding)
            codepoints, log_prob = run_session(self._session, self._path, ["codepoints", "log_prob"], feeds)
            return codepoints, log_prob

        n_parts = min(_CORES, len(uniforms) // NAMES_PER_THREAD)
        if n_parts <= 1:
            return run(uniforms)
        # ONNX Runtime lets go of Python's lock while it runs. A pool for this call alone: none of its threads
        # can be missing after a fork.
        with ThreadPoolExecutor(n_parts) as pool:
            return _together(list(pool.map(run, np.array_split(uniforms, n_parts))))

    def generate_tokens(
        self, uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same as ids, int64 (n, length), 0 after the end."""
        feeds = self._feeds(uniforms, prefix, decoding)
        tokens, log_prob = run_session(self._session, self._path, ["tokens", "log_prob"], feeds)
        return tokens, log_prob

    @staticmethod
    def _feeds(
        uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> dict[str, NDArray[np.generic]]:
        return {
            "uniforms": uniforms,
            "prefix": prefix,
            "temperature": np.array(decoding.temperature, dtype=np.float32),
            "top_k": np.array(min(decoding.top_k, np.iinfo(np.int64).max), dtype=np.int64),
            "top_p": np.array(decoding.top_p, dtype=np.float32),
            "min_length": np.array(decoding.min_length, dtype=np.int64),
        }


def _together(parts: Sequence[Part]) -> Part:
    """The parts of one request, each as wide as its own longest name, one below the other."""
    if len(parts) == 1:
        return parts[0]
    rows = sum(len(codepoints) for codepoints, _ in parts)
    longest = max(codepoints.shape[1] for codepoints, _ in parts)
    together = np.zeros((rows, longest), dtype=np.int32)
    end = 0
    for codepoints, _ in parts:
        start, end = end, end + len(codepoints)
        together[start:end, : codepoints.shape[1]] = codepoints
    return together, np.concatenate([log_prob for _, log_prob in parts])


def open_engine(path: Path, prepare: bool = True) -> NextCharacterModel | GraphSampler:
    """Open an exported file of either kind.

    Args:
        path: the file.
        prepare: see `session_options`.

    Raises:
        ModelFileError: missing, damaged, or not one of ours.
    """
    session = open_session(path, prepare)
    try:
        info = ModelInfo.from_metadata(session.get_modelmeta().custom_metadata_map, path)
        is_sampler = any(node.name == "uniforms" for node in session.get_inputs())
        return GraphSampler(session, info, path) if is_sampler else NextCharacterModel(session, info, path)
    except UnicodeDecodeError as error:  # in names that ONNX Runtime itself does not mind
        raise ModelFileError(f"{path}: damaged (a name is not UTF-8: {error.reason})") from error


def open_next_character_model(path: Path) -> NextCharacterModel:
    """Open a `model.onnx`.

    Raises:
        ModelFileError: missing, damaged, not one of ours, or a sampler.
    """
    engine = open_engine(path)
    if not isinstance(engine, NextCharacterModel):
        raise ModelFileError(f"{path}: a sampler, which gives no logits; {MODEL_FILE} is needed")
    return engine


def resolve_model(model: Path | str | None, *files: str) -> Path:
    """Path of the file that `model` stands for: a file, an export's folder, or None for the newest export.

    Args:
        model: what the user named.
        files: names to look for in a folder, the first that exists; by default `model.onnx`.

    Raises:
        ModelFileError: None was given and nothing has been exported yet, or the folder holds no export.
    """
    path = newest_export() if model is None else Path(model)
    if not path.is_dir():
        return path
    for name in files or (MODEL_FILE,):
        if (path / name).is_file():
            return path / name
    raise ModelFileError(f"{path}: the folder holds no {MODEL_FILE}")


def resolve_sampler(model: Path | str | None) -> Path:
    """The same for a file to sample from: in a folder, the sampler where there is one."""
    return resolve_model(model, SAMPLER_FILE, MODEL_FILE)
