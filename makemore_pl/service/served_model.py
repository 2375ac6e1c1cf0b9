"""The model that is served, opened once, and replaced when its file has been."""

import logging
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from makemore_pl.errors import MakemoreError, ModelFileError, RequestError
from makemore_pl.exported.metadata import MODEL_FILE, SAMPLER_FILE, ModelInfo
from makemore_pl.page.web_runtime import WebRuntime
from makemore_pl.runtime.request import IdRequest, Request
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.scoring.scorer import Scorer
from makemore_pl.service import counters
from makemore_pl.service.page_answers import PageAnswers
from makemore_pl.service.queries import MODEL, read_pairs, read_request, split_format

MOST_LABELS = 64
"""Whose tables are kept."""
Identity: TypeAlias = tuple[tuple[int, int, int], ...]
"""Of the model's files: number, size, and time of the last change. A file that is replaced has another."""

log = logging.getLogger("makemore.service")


class ServedModel:
    """One export, open for names and scores.

    Args:
        path: its `sampler.onnx`, with `model.onnx` beside it; or a `model.onnx` alone.
        runtime: what the page computes with.

    Raises:
        ModelFileError: a file is missing, damaged, or of another export than the other.
    """

    def __init__(self, path: Path, runtime: WebRuntime) -> None:
        self.sampler = Sampler(path)
        scorer = Scorer(path.with_name(MODEL_FILE) if path.name == SAMPLER_FILE else path)
        self.info: ModelInfo = self.sampler.info
        if scorer.info.export_id != self.info.export_id:
            raise ModelFileError(f"{path}: {MODEL_FILE} beside it is of another export")
        self.scorer_of = lru_cache(MOST_LABELS)(scorer.of_label)
        """Of names of a label; None for any."""
        self.page = PageAnswers(path, runtime)

    def read(self, query: bytes, accept: str) -> tuple[Request | IdRequest, str]:
        """What a query for names asks for, and the form of the answer.

        Raises:
            RequestError: an option that does not exist, or a value that is none or out of its range.
        """
        pairs, form = split_format(read_pairs(query), accept)
        wanted = dict(pairs).get(MODEL)
        if wanted not in (None, self.info.export_id):
            raise RequestError(f"model {wanted:.60} is asked for; {self.info.export_id} is served")
        return read_request(pair for pair in pairs if pair[0] != MODEL), form

    def for_ids(self, request: IdRequest) -> list[tuple[str, str]]:
        """Each id with its name.

        Raises:
            RequestError: no such name can be drawn, or not without rejecting others.
        """
        self.sampler.way(request.wish())  # refuses names of which others must be rejected
        counters.names.inc(len(request.ids))
        return list(zip(request.ids, self.sampler.for_ids(**vars(request)), strict=True))


class Watched:
    """The latest sound export at one place.

    Args:
        path: its `sampler.onnx`, or a `model.onnx`.
        runtime: what its page computes with.

    Raises:
        ModelFileError: there is none, or it is not sound.
    """

    def __init__(self, path: Path, runtime: WebRuntime) -> None:
        self._path, self._runtime = path, runtime
        self._seen = self._identity()
        self.now = ServedModel(path, runtime)
        self.refused = False
        """True while the files there are not sound, and an earlier export is served."""
        counters.loaded.set_to_current_time()

    def look(self) -> None:
        """Open the files again if they have been replaced. If they are not sound, the earlier ones stay."""
        found = self._identity()
        if found == self._seen:
            return
        self._seen = found
        try:
            self.now = ServedModel(self._path, self._runtime)
        except MakemoreError as error:
            # The two files of an export are put in place one after the other: the next look may find both.
            self.refused = True
            counters.reloads.labels("refused").inc()
            log.warning("%s; export %.12s is served on", error, self.now.info.export_id)
        else:
            self.refused = False
            counters.reloads.labels("served").inc()
            counters.loaded.set_to_current_time()
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
