"""ONNX Runtime sessions: opening a file, checking what it takes and gives, and computing with it."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

# From 1.29 on, ONNX Runtime reports to its vendor, by way of files in the user's cache, unless this is set
# before it is loaded; so no other file of the package imports it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from makemore_pl.errors import MakemoreError, MemoryLimitError, ModelFileError
from makemore_pl.files import reading
from makemore_pl.memory import out_of_memory

MAX_FILE_BYTES = 1 << 30
"""A larger file is refused: the largest that this project writes is far below 1 GiB."""
Signature: TypeAlias = dict[str, tuple[str, list[int | None]]]
"""Type and shape of each input or output, e.g. ("tensor(int64)", [None, 3]); None is a dynamic dimension."""


def session_options(prepare: bool = True) -> ort.SessionOptions:
    """The options of every session, in use and in verification alike.

    scripts/study_session_options.py measures others.

    Args:
        prepare: compute what depends on constants alone when the file is loaded, not at each call.
    """
    options = ort.SessionOptions()
    # One thread for each call: the graphs are too small to be split operator by operator. Many names are
    # split instead (engines.py), which is faster; and a process without threads of its own may fork.
    options.intra_op_num_threads = 1
    # The basic level computes with constants, of which a sampler's tables are made. The higher ones find
    # nothing in these graphs, and take their time for it.
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if prepare else levels.ORT_DISABLE_ALL
    # Errors reach the caller as exceptions; ONNX Runtime's own log lines would only repeat them.
    options.log_severity_level = 4
    # Nothing but ONNX: not ONNX Runtime's own format, which it would recognise by its first bytes.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


class OnnxFile:
    """An ONNX file, loaded into ONNX Runtime on the CPU. It keeps no state: many threads may call it.

    Args:
        path: the file.
        prepare: see `session_options`.
        content: the file's bytes, where they have been read (and checked) already.

    Raises:
        ModelFileError: the file is missing, too large, no valid model, or has data in another file.
        MemoryLimitError: the file would take too much memory.
    """

    def __init__(self, path: Path, prepare: bool = True, content: bytes | None = None) -> None:
        content = read_onnx(path) if content is None else content
        self.path = path
        try:
            # Without the fallback, which tries the same once more and says so on standard output.
            self.session = ort.InferenceSession(
                content, session_options(prepare), providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise self._as_ours("not a readable ONNX model", error) from error

    def expect_signature(self, inputs: Signature, outputs: Signature) -> None:
        """Check names, types and shapes of the file's inputs and outputs.

        Raises:
            ModelFileError: the file has others.
        """
        for kind, expected, nodes in (
            ("inputs", inputs, self.session.get_inputs()),
            ("outputs", outputs, self.session.get_outputs()),
        ):
            found = {n.name: (n.type, [d if isinstance(d, int) else None for d in n.shape]) for n in nodes}
            if found != expected:
                raise ModelFileError(f"{self.path}: expected {kind} {expected}, found {found}")

    def compute(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute some of the outputs.

        Raises:
            ModelFileError: the file's graph fails, as no graph of this project does.
            MemoryLimitError: it would take too much memory.
        """
        try:
            results: list[NDArray[Any]] = self.session.run(outputs, inputs)
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise self._as_ours("cannot be computed", error) from error
        return results

    def _as_ours(self, what: str, error: Exception) -> MakemoreError:
        """ONNX Runtime's error as one of ours. It has no type of its own for memory that was refused."""
        text = str(error)
        if any(sign in text for sign in ("bad_alloc", "bad allocation", "Failed to allocate memory")):
            return MemoryLimitError(f"{self.path}: {out_of_memory()}")
        lines = text.strip().splitlines()
        return ModelFileError(f"{self.path}: {what} ({lines[0][:200] if lines else type(error).__name__})")


def read_onnx(path: Path) -> bytes:
    """Bytes of an ONNX file, which ONNX Runtime has not seen yet.

    Raises:
        ModelFileError: the file is missing, too large, or has data in another file.
    """
    with reading(path, ModelFileError) as size:
        if size > MAX_FILE_BYTES:
            raise ModelFileError(f"{path}: {size:,} bytes; more than {MAX_FILE_BYTES:,} is refused")
        content = path.read_bytes()
    expect_data_inside(content, path)
    return content


def expect_data_inside(content: bytes, path: Path) -> None:
    """Check that an ONNX file has all its data inside.

    A tensor may name another file that its data is read from: any file, in most releases of ONNX Runtime, and
    in old ones any address in memory.

    Raises:
        ModelFileError: some of the data is outside.
    """
    # The name is stored under the key `location`. A protocol buffer holds a text as it is, after its length:
    # 8 in one byte, or in several that end with 0. Our metadata, which is JSON, has no such bytes.
    if re.search(rb"[\x08\x00]location", content):
        raise ModelFileError(f"{path}: not exported by makemore (it has data in another file)")
