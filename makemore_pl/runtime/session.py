"""Opening an exported file: one place for the session options and for what can be wrong with a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from makemore_pl.errors import MakemoreError, ModelFileError
from makemore_pl.memory import MemoryLimitError, file_size, out_of_memory, require_memory
from makemore_pl.runtime.operators import expect_known_operators

MAX_FILE_BYTES = 1 << 30
"""A larger file is refused: the largest that this project writes is far below 1 GiB."""


def session_options(prepare: bool = True) -> ort.SessionOptions:
    """The options of every session, in use and in verification alike; scripts/study_session_options.py
    measures others.

    Args:
        prepare: compute what depends on constants alone when the file is loaded, not at each call.
    """
    options = ort.SessionOptions()
    # One thread for each call: the graphs are too small to be shared out operator by operator. Many names are
    # shared out instead (`engines.py`), which is faster, and without threads of its own a process may fork.
    options.intra_op_num_threads = 1
    # The basic level computes with constants, of which a sampler's tables are made. The higher ones find
    # nothing in these graphs, and take their time for it.
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if prepare else levels.ORT_DISABLE_ALL
    # Errors reach the caller as exceptions; ONNX Runtime's own log lines would only repeat them.
    options.log_severity_level = 4
    return options


def open_session(path: Path, prepare: bool = True) -> ort.InferenceSession:
    """Load `path` into ONNX Runtime on the CPU.

    Args:
        path: an ONNX file.
        prepare: see `session_options`.

    Raises:
        ModelFileError: the file is missing, too large, no valid model, or made of operators that this project
            does not write.
        MemoryLimitError: the file would take too much memory.
    """
    size = file_size(path, ModelFileError)
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"{path}: {size:,} bytes; more than {MAX_FILE_BYTES:,} is refused")
    # The bytes, the parsed file, and the session's own copy.
    require_memory(3 * size, f"{path}: 3 × {size:,} bytes")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}") from error
    expect_known_operators(content, path)
    try:
        # Bytes, not the path: ONNX Runtime then has no folder to look for external data in. Without its
        # fallback, which tries the same once more and says so on standard output.
        return ort.InferenceSession(
            content, session_options(prepare), providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime raises many unrelated types
        raise _failure(path, "not a readable ONNX model", error) from error


def run_session(
    session: ort.InferenceSession, path: Path, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Compute `outputs`.

    Raises:
        ModelFileError: the file's graph fails, which none of this project does.
        MemoryLimitError: it would take too much memory.
    """
    try:
        results: list[NDArray[Any]] = session.run(outputs, feeds)
    except Exception as error:  # ONNX Runtime raises many unrelated types
        raise _failure(path, "cannot be computed", error) from error
    return results


def expect_signature(
    session: ort.InferenceSession, path: Path, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]
) -> None:
    """Check names and shapes; a text or None in a shape stands for any dynamic dimension.

    Raises:
        ModelFileError: the file has other inputs or outputs.
    """
    for kind, expected, nodes in (
        ("input", inputs, session.get_inputs()),
        ("output", outputs, session.get_outputs()),
    ):
        found = {node.name: [d if isinstance(d, int) else None for d in node.shape] for node in nodes}
        if found != expected:
            raise ModelFileError(f"{path}: expected {kind}s {expected}, found {found}")


def _failure(path: Path, what: str, error: Exception) -> MakemoreError:
    """ONNX Runtime's error as one of ours. It has no type of its own for memory that it could not have."""
    text = str(error)
    if any(sign in text for sign in ("bad_alloc", "bad allocation", "Failed to allocate memory")):
        return MemoryLimitError(f"{path}: {out_of_memory()}")
    lines = text.strip().splitlines()
    return ModelFileError(f"{path}: {what} ({lines[0][:200] if lines else type(error).__name__})")
