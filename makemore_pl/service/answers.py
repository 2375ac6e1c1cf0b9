"""Rows as the body of an answer: JSON, NDJSON or plain text, whole or as they come."""

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from json.encoder import encode_basestring
from typing import Any

from anyio import fail_after
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from makemore_pl.errors import MakemoreError
from makemore_pl.scoring.scorer import Score
from makemore_pl.service.queries import FORMATS
from makemore_pl.tables.score_table import LABEL_COLUMNS, SCORE_COLUMNS

NOT_STORED = {"cache-control": "no-store"}
READING_SECONDS = 10.0
"""Longest wait for a client that reads nothing of what is ready for it."""

log = logging.getLogger("makemore.service")

Encode = Callable[[Any], str]
"""A row as a JSON object, or as a line of text."""


def _sampled(row: Sequence[Any]) -> str:
    # As `json.dumps` writes it, in half the time.
    name, log_prob, *label = row
    end = f', "label": {encode_basestring(label[0])}}}' if label else "}"
    return f'{{"name": {encode_basestring(name)}, "log_prob": {log_prob!r}{end}'


def _for_id(row: Sequence[Any]) -> str:
    return f'{{"id": {encode_basestring(row[0])}, "name": {encode_basestring(row[1])}}}'


def _scored(columns: Sequence[str], score: Score) -> str:
    return json.dumps({column: getattr(score, column) for column in columns}, ensure_ascii=False)


def _scored_text(score: Score) -> str:
    log_prob = "-" if score.log_prob is None else f"{score.log_prob:.4f}"
    return f"{log_prob}\t{score.name}"


ENCODERS: dict[str, tuple[Encode, Encode]] = {
    "names": (_sampled, lambda row: row[0]),
    "ids": (_for_id, "\t".join),
    "scores": (partial(_scored, ("name", *SCORE_COLUMNS)), _scored_text),
    "scores and labels": (partial(_scored, ("name", *SCORE_COLUMNS, *LABEL_COLUMNS)), _scored_text),
}
"""For each kind of rows: as JSON, and as text."""


def encode(rows: Iterable[Any], kind: str, form: str) -> bytes:
    """The rows of an answer, or a part of them, without what stands around an array."""
    as_json, as_text = ENCODERS[kind]
    if form == "json":
        text = ",\n".join(map(as_json, rows))
    else:
        text = "".join([f"{row}\n" for row in map(as_json if form == "ndjson" else as_text, rows)])
    # A single surrogate, which JSON can write and UTF-8 cannot, becomes `\udXXX`: again JSON.
    return text.encode("utf-8", "backslashreplace")


def whole(rows: Iterable[Any], kind: str, form: str) -> Response:
    """An answer of few rows."""
    body = encode(rows, kind, form)
    return Response(b"[%b]\n" % body if form == "json" else body, 200, NOT_STORED, FORMATS[form])


def head(form: str) -> Response:
    """The answer to HEAD: the headers alone. How long the body would be is not known."""
    response = Response(media_type=FORMATS[form], headers=NOT_STORED)
    del response.headers["content-length"]
    return response


class StreamedNames(StreamingResponse):
    """Names sent as they come and as fast as they are read.

    Args:
        first: the first of them.
        others: what follows, some at a time.
        form: of the answer.
        ended: called at the end, whether all has been read or the client has left.
    """

    def __init__(
        self, first: Sequence[Any], others: AsyncIterator[Sequence[Any]], form: str, ended: Callable[[], None]
    ) -> None:
        super().__init__(_chunks(first, others, form), media_type=FORMATS[form], headers=NOT_STORED)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()

    async def stream_response(self, send: Send) -> None:
        """Send all, or what there is: without its end, the client can tell that the body is not whole."""

        async def send_in_time(message: Message) -> None:
            with fail_after(READING_SECONDS):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            log.warning(
                "a stream is cut short: nothing of it has been read for %.0f seconds", READING_SECONDS
            )
        except (MakemoreError, HTTPException) as error:
            log.warning("a stream is cut short: %s", error)


async def _chunks(
    first: Sequence[Any], others: AsyncIterator[Sequence[Any]], form: str
) -> AsyncIterator[bytes]:
    before, between, after = (b"[", b",\n", b"]\n") if form == "json" else (b"", b"", b"")
    yield before + encode(first, "names", form)
    async for rows in others:
        yield between + encode(rows, "names", form)
    yield after
