"""The model that is served, opened once, and replaced when its file has been."""

import logging
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from makemore_pl.errors import MakemoreError, ModelFileError
from makemore_pl.runtime.metadata import MODEL_FILE, SAMPLER_FILE, ModelInfo, find_model
from makemore_pl.runtime.request import IdRequest, Request
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.runtime.scorer import Scorer
from makemore_pl.service.queries import read_pairs, read_request, split_format
from makemore_pl.service.reservoir import Reservoir

FEW = 1_000
"""So many names are an answer of one piece; more are streamed."""
RESERVOIRS = 64
"""Kinds of names drawn ahead."""
Identity: TypeAlias = tuple[tuple[int, int, int], ...]
"""Of the model's files: number, size, and time of the last change. A file that is replaced has another."""

log = logging.getLogger("makemore.service")


class ServedModel:
    """One export, open for names and scores.

    Args:
        path: its `sampler.onnx`, with `model.onnx` beside it; or a `model.onnx` alone.

    Raises:
        ModelFileError: a file is missing, damaged, or of another export than the other.
    """

    def __init__(self, path: Path) -> None:
        self.sampler = Sampler(path)
        self.scorer = Scorer(path.with_name(MODEL_FILE) if path.name == SAMPLER_FILE else path)
        self.info: ModelInfo = self.sampler.info
        if self.scorer.info.export_id != self.info.export_id:
            raise ModelFileError(f"{path}: {MODEL_FILE} beside it is of another export")
        self._reservoir = lru_cache(RESERVOIRS)(partial(Reservoir, self.sampler))
        self.asked = lru_cache(RESERVOIRS)(self.read)
        """`read` for short queries, which are often the same."""

    def read(self, query: bytes, accept: str) -> "Asked":
        """What a query for names asks for.

        Raises:
            RequestError: an option that does not exist, or a value that is none or out of its range.
        """
        pairs, form = split_format(read_pairs(query), accept)
        request = read_request(pairs)
        is_small = isinstance(request, Request) and request.n <= FEW and not request.unique
        if is_small and request.seed is None:  # type: ignore[union-attr]
            return Asked(request, form, self._reservoir(request.wish()))
        return Asked(request, form)


class Asked(NamedTuple):
    """A query for names, read."""

    request: Request | IdRequest
    form: str  # of the answer
    reservoir: Reservoir | None = None  # where such names are drawn ahead


class Watched:
    """The latest sound export at one place.

    Args:
        model: an ONNX file or an export's folder; None for the newest under checkpoints/.

    Raises:
        ModelFileError: there is none, or it is not sound.
    """

    def __init__(self, model: Path | str | None) -> None:
        self._path = find_model(model, SAMPLER_FILE, MODEL_FILE)
        self._seen = self._identity()
        self.now = ServedModel(self._path)
        self.refused = False
        """True while the files there are not sound, and an earlier export is served."""
        self.loaded_at = time.time()

    def look(self) -> None:
        """Open the files again if they have been replaced. If they are not sound, the earlier ones stay."""
        found = self._identity()
        if found == self._seen:
            return
        self._seen = found
        try:
            self.now = ServedModel(self._path)
        except MakemoreError as error:
            # The two files of an export are put in place one after the other: the next look may find both.
            self.refused = True
            log.warning("%s; export %.12s is served on", error, self.now.info.export_id)
        else:
            self.refused = False
            self.loaded_at = time.time()
            log.warning("%s: export %.12s is served now", self._path, self.now.info.export_id)

    def _identity(self) -> Identity:
        identities = []
        for file in (self._path, self._path.with_name(MODEL_FILE)):
            try:
                status = file.stat()
            except OSError:  # about to be replaced, or gone
                identities.append((0, 0, 0))
            else:
                identities.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(identities)
