"""The two kinds of exported file behind one method, `generate`: uniform draws in, names out."""

import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import ModelFileError
from makemore_pl.exported.metadata import ModelInfo
from makemore_pl.exported.session import OnnxFile, Signature, read_onnx
from makemore_pl.runtime.decoding import Decoding, NextLogits, sample_stepwise
from makemore_pl.runtime.table import LogitTable, stored_logits

MOST = np.iinfo(np.int64).max
"""Largest int64."""
NAMES_PER_THREAD = 1_000
"""Fewest names that are worth a thread of their own."""
NAMES_PER_THREAD_BY_TABLE = 10_000
"""The same where NumPy draws them: between its many short calls, threads wait for Python's lock."""
NAMES_AT_A_TIME = 1 << 14
"""Drawn by NumPy: enough to hide the overhead of its calls, few enough for the processor's cache."""
DRAWS_PER_CONTEXT = 4
"""Names are drawn from a file's table if they may take at least this many draws for each of its contexts."""
MOST_LOGITS = 1 << 21
"""Of a table that names are drawn from: what is made from it takes 32 MiB."""
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

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
    """An open `model.onnx`: logits of the next character. Names are drawn step by step with NumPy."""

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
        tokens, log_prob = sample_stepwise(
            self.next_logits, self.info.block_size, uniforms, prefix, decoding, label_ids
        )
        return _expect_names((self._codepoints[tokens], log_prob), len(uniforms), self._file.path)


class GraphSampler:
    """An open `sampler.onnx`: the whole loop inside the graph. One call makes all names.

    Where the file stores all logits, names that are so many that it pays are drawn from these with NumPy.
    """

    def __init__(self, file: OnnxFile, info: ModelInfo, content: bytes) -> None:
        file.expect_signature(SAMPLER_INPUTS | LABEL if info.labels else SAMPLER_INPUTS, SAMPLER_OUTPUTS)
        self.info = info
        self._file = file
        self._codepoints = info.vocabulary.token_codepoints
        n_ids = len(self._codepoints)
        self.entries_per_name = n_ids  # of a step's matrices
        self._n_contexts = info.space.total
        searched = info.form == "table" and self._n_contexts * n_ids <= MOST_LOGITS
        self._logits = stored_logits(content, self._n_contexts, n_ids) if searched else None

    @cached_property
    def table(self) -> LogitTable | None:
        """The logits that the file stores, if its form is `table` and they are not too many."""
        if self._logits is None or not np.isfinite(self._logits).all():
            return None  # then the graph is asked
        return LogitTable(self._logits, self.info.space)

    def generate(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> Names:
        """Draw n names; see `NextCharacterModel.generate`."""

        table = self.table if uniforms.size >= DRAWS_PER_CONTEXT * self._n_contexts else None

        def run(part: slice) -> Names:
            labels = None if label_ids is None else label_ids[part]
            if table is not None:
                tokens, log_prob = table.generate(uniforms[part], prefix, decoding, labels)
                return self._codepoints[tokens], log_prob
            names = self._run(["codepoints", "log_prob"], uniforms[part], prefix, decoding, labels)
            return _expect_names((names[0], names[1]), len(uniforms[part]), self._file.path)

        n = len(uniforms)
        n_threads = min(_CORES, n // (NAMES_PER_THREAD if table is None else NAMES_PER_THREAD_BY_TABLE))
        n_parts = n_threads if table is None else -(-n // NAMES_AT_A_TIME)
        if n_parts <= 1:
            return run(slice(None))
        bounds = [n * part // n_parts for part in range(n_parts + 1)]
        parts = list(map(slice, bounds, bounds[1:]))
        if n_threads <= 1:
            return _join(list(map(run, parts)))
        # ONNX Runtime and NumPy release Python's lock while they run. The pool lives for this call alone: so
        # none of its threads can be missing after a fork.
        with ThreadPoolExecutor(n_threads) as pool:
            return _join(list(pool.map(run, parts)))

    def generate_by_table(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Draw names from the file's table, as `generate` does where that pays; see `generate_all`."""
        assert self.table is not None
        tokens, log_prob = self.table.generate(uniforms, prefix, decoding, label_ids)
        return tokens, self._codepoints[tokens], log_prob

    def generate_all(
        self,
        uniforms: NDArray[np.float32],
        prefix: NDArray[np.int64],
        decoding: Decoding,
        label_ids: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Draw names in one call, with all outputs: ids int64 (n, length), code points, log_prob."""
        tokens, codepoints, log_prob = self._run(list(SAMPLER_OUTPUTS), uniforms, prefix, decoding, label_ids)
        _expect_names((codepoints, log_prob), len(uniforms), self._file.path)
        if tokens.shape != codepoints.shape:
            raise ModelFileError(f"{self._file.path}: damaged (it gives other than {len(uniforms):,} names)")
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
