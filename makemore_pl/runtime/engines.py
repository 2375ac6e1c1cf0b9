"""The two kinds of exported file behind one method, `generate`: uniform draws in, names out."""

import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import ModelFileError
from makemore_pl.exported.metadata import MODEL_FILE, ModelInfo
from makemore_pl.exported.session import OnnxFile, Signature, read_onnx
from makemore_pl.exported.stored_table import stored_logits
from makemore_pl.runtime.decoding import Decoding, NextLogits, sample_stepwise
from makemore_pl.runtime.table import CORES, MOST_LOGITS, LogitTables, are_few, pays

MOST = np.iinfo(np.int64).max
"""Largest int64."""
NAMES_PER_CALL = 1_000
"""Names that ONNX Runtime draws at a time: enough for a thread, and hidden layers fit the cache."""
CONTEXTS_PER_CALL = 1 << 11
"""For the same reason: a wide network takes half the time, or less, for parts than for 2^16 at once."""

SAMPLER_INPUTS: Signature = {
    "uniforms": ("tensor(float)", [None, None]),
    "prefix": ("tensor(int64)", [None]),
    "temperature": ("tensor(float)", []),
    "top_k": ("tensor(int64)", []),
    "top_p": ("tensor(float)", []),
    "min_length": ("tensor(int64)", []),
}
"""And `LABEL`, where names have labels."""
LABEL: Signature = {"label": ("tensor(int64)", [None])}
SAMPLER_OUTPUTS: Signature = {
    "tokens": ("tensor(int64)", [None, None]),
    "codepoints": ("tensor(int32)", [None, None]),
    "log_prob": ("tensor(float)", [None]),
}

Names: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Code points (n, length), 0 after the end, and log-likelihoods (n,) in nats."""


class NextCharacterModel:
    """An open `model.onnx`: logits of the next character. Names are drawn from them with NumPy.

    That is done step by step; or, if names are so many that it pays, from the logits of all contexts.
    """

    def __init__(self, file: OnnxFile, info: ModelInfo) -> None:
        self._vocab_size = len(info.vocabulary)
        context: Signature = {"context": ("tensor(int64)", [None, info.block_size])}
        file.expect_signature(
            context | LABEL if info.labels else context,
            {"logits": ("tensor(float)", [None, self._vocab_size])},
        )
        self.info = info
        self._file = file
        self._codepoints = info.vocabulary.token_codepoints
        self.entries_per_name = self._vocab_size + info.block_size  # of NumPy's matrices, for each name

    def next_logits(self, context: NDArray[np.int64]) -> NDArray[np.float32]:
        """context int64 (n, P) -> logits float32 (n, V). P is T, or T + 1 with a label's id in column 0."""
        if len(context) <= CONTEXTS_PER_CALL:
            return self._logits_after(context)
        starts = range(0, len(context), CONTEXTS_PER_CALL)
        return np.concatenate([self._logits_after(context[at : at + CONTEXTS_PER_CALL]) for at in starts])

    def _logits_after(self, context: NDArray[np.int64]) -> NDArray[np.float32]:
        inputs = {"context": context}
        if self.info.labels:
            inputs = {"label": context[:, 0] - self._vocab_size, "context": context[:, 1:]}
        [logits] = self._file.compute(["logits"], inputs)
        if logits.shape != (len(context), self._vocab_size):
            raise ModelFileError(f"{self._file.path}: damaged (its logits have the shape {logits.shape})")
        return logits

    def for_label(self, label: str | None) -> NextLogits:
        """`next_logits` after a label, as a function of the characters alone, int64 (n, T).

        Args:
            label: of all names; None where there are no labels.

        Raises:
            RequestError: the model has no such label.
        """
        if label is None:
            return self.next_logits
        label_id = self.info.label_id(label)
        return lambda characters: self.next_logits(np.insert(characters, 0, label_id, axis=1))

    def generate(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> Names:
        """Draw n names.

        Args:
            uniforms: float32 (n, steps) in [0, 1), one draw per character.
            prefix: int64 (p,), ids at the start of every name.
            decoding: how each character is drawn.
            label_ids: int64 (n,), the label of each name, V + its number; None where there are no labels.

        Returns:
            Code points int32 (n, length), 0 after the end, and log_prob float32 (n,).
        """
        if pays(self.info.space, uniforms, label_ids) and self.tables is not None:
            tokens, log_prob = self.tables.generate(uniforms, prefix, decoding, label_ids)
        else:
            tokens, log_prob = sample_stepwise(
                self.next_logits, self.info.block_size, uniforms, prefix, decoding, label_ids
            )
        return _expect_names((self._codepoints[tokens], log_prob), len(uniforms), self._file.path)

    @cached_property
    def tables(self) -> LogitTables | None:
        """The logits after all contexts, where these are few."""
        space = self.info.space
        return LogitTables(space, self._logits_of) if are_few(space) else None

    def _logits_of(self, label: int) -> NDArray[np.float32]:
        space = self.info.space
        n_contexts = space.vocab_size**space.block_size
        numbers = np.arange(label * n_contexts, (label + 1) * n_contexts)
        logits = self.next_logits(space.contexts(numbers))  # (R, V)
        if not np.isfinite(logits).all():
            raise ModelFileError(f"{self._file.path}: damaged (its logits are NaN or infinite)")
        return logits


class GraphSampler:
    """An open `sampler.onnx`: the whole loop inside the graph. One call makes all names.

    Names that are so many that it pays are drawn with NumPy: from the logits of all contexts, which the file
    stores in form `table`, and `model.onnx` beside it computes in the others.
    """

    def __init__(self, file: OnnxFile, info: ModelInfo, content: bytes) -> None:
        file.expect_signature(SAMPLER_INPUTS | LABEL if info.labels else SAMPLER_INPUTS, SAMPLER_OUTPUTS)
        self.info = info
        self.path = file.path
        self._file = file
        self._codepoints = info.vocabulary.token_codepoints
        n_ids = len(self._codepoints)
        self.entries_per_name = n_ids  # of a step's matrices
        searched = info.form == "table" and are_few(info.space)
        self._logits = stored_logits(content, info.space.total, n_ids) if searched else None

    @cached_property
    def model(self) -> NextCharacterModel | None:
        """`model.onnx` of the same export, which gives logits; None if it is not beside this file."""
        beside = self.path.with_name(MODEL_FILE)
        if beside.is_file():
            model = open_engine(beside)
            if isinstance(model, NextCharacterModel) and model.info.export_id == self.info.export_id:
                return model
        return None

    @cached_property
    def tables(self) -> LogitTables | None:
        """The logits after all contexts, where these are few and can be had."""
        if self.info.form != "table":
            with suppress(ModelFileError):  # then the graph is asked
                return self.model.tables if self.model is not None else None
        logits = self._logits
        if logits is None or not np.isfinite(logits).all():
            return None
        n_labels = max(1, self.info.space.n_labels)
        return LogitTables(self.info.space, np.split(logits, n_labels).__getitem__)

    def generate(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> Names:
        """Draw n names; see `NextCharacterModel.generate`."""
        if pays(self.info.space, uniforms, label_ids) and self.tables is not None:
            tokens, log_prob = self.tables.generate(uniforms, prefix, decoding, label_ids)
            return self._codepoints[tokens], log_prob

        def run(part: slice) -> Names:
            labels = None if label_ids is None else label_ids[part]
            names = self._run(["codepoints", "log_prob"], uniforms[part], prefix, decoding, labels)
            return _expect_names((names[0], names[1]), len(uniforms[part]), self.path)

        n_parts = len(uniforms) // NAMES_PER_CALL
        space = self.info.space
        if space.total * space.vocab_size <= MOST_LOGITS:  # the graph makes a table of all in each call
            n_parts = min(CORES, n_parts)
        if n_parts <= 1:
            return run(slice(None))
        bounds = [len(uniforms) * part // n_parts for part in range(n_parts + 1)]
        # ONNX Runtime releases Python's lock while it runs. The pool lives for this call alone: so none of
        # its threads can be missing after a fork.
        with ThreadPoolExecutor(min(CORES, n_parts)) as pool:
            return _join(list(pool.map(run, map(slice, bounds, bounds[1:]))))

    def generate_by_tables(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Draw names from the tables, as `generate` does where that pays; see `generate_all`."""
        assert self.tables is not None
        tokens, log_prob = self.tables.generate(uniforms, prefix, decoding, label_ids)
        return tokens.astype(np.int64), self._codepoints[tokens], log_prob

    def generate_all(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Draw names in one call, with all outputs: ids int64 (n, length), code points, log_prob."""
        tokens, codepoints, log_prob = self._run(list(SAMPLER_OUTPUTS), uniforms, prefix, decoding, label_ids)
        _expect_names((codepoints, log_prob), len(uniforms), self.path)
        if tokens.shape != codepoints.shape:
            raise ModelFileError(f"{self.path}: damaged (it gives other than {len(uniforms):,} names)")
        return tokens, codepoints, log_prob

    def _run(
        self,
        outputs: list[str],
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None,
    ) -> list[NDArray[Any]]:
        inputs: dict[str, NDArray[Any]] = {
            "uniforms": uniforms,
            "prefix": prefix,
            "temperature": np.array(decoding.temperature, dtype=np.float32),
            "top_k": np.array(min(decoding.top_k, MOST), dtype=np.int64),
            "top_p": np.array(decoding.top_p, dtype=np.float32),
            "min_length": np.array(decoding.min_length, dtype=np.int64),
        }
        if label_ids is not None:
            inputs["label"] = label_ids - len(self.info.vocabulary)
        return self._file.compute(outputs, inputs)


def _join(parts: Sequence[Names]) -> Names:
    """The parts of one request, each as wide as its own longest name, one below the other."""
    longest = max(codepoints.shape[1] for codepoints, _ in parts)
    joined = np.zeros((sum(len(codepoints) for codepoints, _ in parts), longest), dtype=np.int32)
    start = 0
    for codepoints, _ in parts:
        joined[start : start + len(codepoints), : codepoints.shape[1]] = codepoints
        start += len(codepoints)
    return joined, np.concatenate([log_prob for _, log_prob in parts])


def _expect_names(names: Names, n: int, path: Path) -> Names:
    """Check what a file's graph has computed: another's graph may compute anything."""
    codepoints, log_prob = names
    if codepoints.ndim != 2 or len(codepoints) != n or log_prob.shape != (n,):
        raise ModelFileError(f"{path}: damaged (it gives other than {n:,} names)")
    if codepoints.view(np.uint32).max(initial=0) > sys.maxunicode:
        raise ModelFileError(f"{path}: damaged (it gives characters that are not in Unicode)")
    if math.isnan(log_prob.sum()):
        raise ModelFileError(f"{path}: damaged (its log-likelihoods are NaN)")
    return names


def open_engine(
    path: Path, prepare: bool = True, content: bytes | None = None
) -> NextCharacterModel | GraphSampler:
    """Open an exported file of either kind.

    Args:
        path: the file.
        prepare: see `session_options`.
        content: the file's bytes, where they have been read already.

    Raises:
        ModelFileError: missing, damaged, or not one of ours.
    """
    content = read_onnx(path) if content is None else content
    file = OnnxFile(path, prepare, content)
    try:
        info = ModelInfo.from_metadata(file.session.get_modelmeta().custom_metadata_map, path)
        is_sampler = any(node.name == "uniforms" for node in file.session.get_inputs())
        return GraphSampler(file, info, content) if is_sampler else NextCharacterModel(file, info)
    except UnicodeDecodeError as error:  # in names that ONNX Runtime itself accepts
        raise ModelFileError(f"{path}: damaged (a name is not UTF-8: {error.reason})") from error
