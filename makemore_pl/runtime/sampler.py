"""`Sampler`: new names from an exported file."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import TooFewNamesError
from makemore_pl.memory import require_memory
from makemore_pl.runtime.engines import GraphSampler, NextCharacterModel, open_engine
from makemore_pl.runtime.metadata import MODEL_FILE, SAMPLER_FILE, ModelInfo, find_model
from makemore_pl.runtime.options import takes
from makemore_pl.runtime.request import Request

BATCH_ENTRIES = 1 << 21
"""Entries of a batch's largest matrix: bounds its memory, however many names are asked for."""
PATIENCE = 100_000
"""Draws in a row without an accepted name after which a filtered request is given up."""
MANY_NAMES = 100_000
"""Fewer names fit everywhere."""
BYTES_PER_NAME = 128
"""A name in a list, with the list's own share."""


class Batch(NamedTuple):
    """Names, and their log-likelihoods in nats under the plain model, boundary included."""

    names: list[str]
    log_probs: list[float]


class Sampler:
    """Draws names from an exported model. Needs NumPy and ONNX Runtime alone.

    A folder's `sampler.onnx` makes a whole batch of names in one call; `model.onnx` alone is sampled step by
    step, to the same names but for rounding. One sampler may be called from many threads at once. A pickled
    sampler opens its file at its first use: with `multiprocessing`, each process reads it for itself.

    Args:
        model: an exported ONNX file or an export's folder; None takes the newest under checkpoints/.
        prepare: compute the sampler's tables once, when the file is opened, which takes a tenth of a second
            and pays from the fourth call on; False computes them at each call.

    Raises:
        ModelFileError: there is no such file, or it is not one of ours.

    Example:
        >>> Sampler("checkpoints/names").sample(3, seed=1)  # doctest: +SKIP
        ['kaylin', 'jorah', 'amelie']
    """

    def __init__(self, model: Path | str | None = None, *, prepare: bool = True) -> None:
        path = find_model(model, SAMPLER_FILE, MODEL_FILE)
        self._engine = open_engine(path, prepare)
        self._file: dict[str, Any] = {"path": path.absolute(), "prepare": prepare}

    @cached_property
    def _engine(self) -> NextCharacterModel | GraphSampler:
        return open_engine(**self._file)

    @property
    def info(self) -> ModelInfo:
        """The file's metadata."""
        return self._engine.info

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens its file at its first use, and not when it is unpickled: a process of a pool that fails
        # then is lost with its task, for which the caller would wait forever.
        return {"_file": self._file}

    @takes(Request)
    def sample(self, request: Request) -> list[str]:
        """Draw `n` names. Same options and seed, same names. The options are explained in `Request`.

        Raises:
            RequestError: an option out of its range.
            VocabularyError: the prefix has a character that the model does not know.
            TooFewNamesError: the filters let too few names through; it holds those found.
            MemoryLimitError: so many names are too many for a list; see `stream`.
        """
        if request.n > MANY_NAMES:
            require_memory(request.n * BYTES_PER_NAME, f"{request.n:,} names of about {BYTES_PER_NAME} bytes")
        names = [name for batch in self._start(request) for name in batch.names]
        if len(names) < request.n:
            raise TooFewNamesError(request.n, len(names), names)
        return names

    @takes(Request)
    def stream(self, request: Request) -> Iterator[Batch]:
        """Draw the same names in batches, with their log-likelihoods.

        Takes no more memory for more names (but for `unique`, which must remember them). Ends early where
        `sample` raises TooFewNamesError; the other errors come at once, before the first batch.
        """
        return self._start(request)

    def _start(self, request: Request) -> Iterator[Batch]:
        prefix = self.info.vocabulary.encode(request.prefix)
        return self._batches(request, prefix, request.name_filter())

    def _batches(
        self, request: Request, prefix: NDArray[np.int64], accept: Callable[[str], bool] | None
    ) -> Iterator[Batch]:
        longest = request.max_length or max(2 * self.info.longest_name, request.min_length, len(prefix))
        steps = longest - len(prefix)
        most = max(1, BATCH_ENTRIES // max(steps, self._engine.entries_per_name))
        generator = np.random.default_rng(request.seed)
        missing = request.n
        fruitless = 0  # draws since the last accepted name
        while missing > 0 and fruitless < PATIENCE:
            # A filter lets only some through: a surplus meets most requests in the first round.
            size = min(most, missing if accept is None else max(1_000, 2 * missing))
            # A row a name: a seed's first names are the same, however many are asked for.
            uniforms = generator.random((size, steps), dtype=np.float32)
            codepoints, log_probs = self._engine.generate(uniforms, prefix, request)
            batch = Batch(to_text(codepoints), log_probs.tolist())
            if accept is not None:
                kept = [i for i, name in enumerate(batch.names) if accept(name)][:missing]
                batch = Batch([batch.names[i] for i in kept], [batch.log_probs[i] for i in kept])
            missing -= len(batch.names)
            fruitless = 0 if batch.names else fruitless + size
            if batch.names:
                yield batch


def to_text(codepoints: NDArray[np.int32]) -> list[str]:
    """Rows of code points, 0 after the end, as texts: NumPy's own fixed-width texts end at the zeros."""
    n, length = codepoints.shape
    if length == 0:
        return [""] * n
    texts: list[str] = np.ascontiguousarray(codepoints).view(f"<U{length}")[:, 0].tolist()
    return texts
