"""The body of a request: read up to a limit, and the names in it."""

import io
import json

from anyio import fail_after
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from makemore_pl.errors import DataError, RequestError
from makemore_pl.exported.metadata import MAX_LENGTH
from makemore_pl.parsing.names_io import read_lines

MAX_BYTES = 1 << 20
"""Largest body."""
ARRIVAL_SECONDS = 20.0
"""All of a body must have arrived by then."""


async def read_body(request: Request) -> bytes:
    """All of the body. What is too large is read, too, and thrown away, so that its sender reads the answer.

    Raises:
        HTTPException: 413, it is too large; 408, too slow; 400, its sender has left.
    """
    body, n_bytes = bytearray(), 0
    close = {"connection": "close"}
    try:
        with fail_after(ARRIVAL_SECONDS):
            async for chunk in request.stream():
                n_bytes += len(chunk)
                if n_bytes <= MAX_BYTES:
                    body += chunk
    except TimeoutError as error:
        sentence = f"the body has not arrived within {ARRIVAL_SECONDS:.0f} seconds"
        raise HTTPException(408, sentence, close) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the body is not whole") from error
    if n_bytes > MAX_BYTES:
        raise HTTPException(413, f"a body has at most {MAX_BYTES:,} bytes", close)
    return bytes(body)


def names_in(body: bytes, content_type: str) -> list[str]:
    """Names of a body: an array of texts in JSON, or a name a line in plain text.

    Raises:
        HTTPException: 415, it is of another type.
        DataError, RequestError: it is not what its type says.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/plain":
        return list(read_lines(io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig"), "the body"))
    if kind != "application/json":
        raise HTTPException(
            415, "names come as application/json, an array of texts, or as text/plain, one a line"
        )
    try:
        names = json.loads(body)
    except RecursionError as error:
        raise RequestError("the body: an array of texts is expected, not arrays within arrays") from error
    except ValueError as error:  # bad UTF-8, too
        raise RequestError(f"the body is no JSON ({error})") from error
    if not isinstance(names, list):
        raise RequestError(f"the body: an array of texts is expected, not {json.dumps(names)[:40]}")
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise RequestError(f"the body: name {i + 1} must be a text, not {json.dumps(name)[:40]}")
    expect_short(names)
    return names


def expect_short(names: list[str]) -> None:
    """Refuse a name that is too long to be one.

    Raises:
        DataError: with its number, from 1.
    """
    for i, name in enumerate(names):
        if len(name) > MAX_LENGTH:
            raise DataError(f"name {i + 1}: more than {MAX_LENGTH:,} characters")
