"""Answers that say what is wrong: all of one shape, that of RFC 9457, with one sentence."""

import json
import logging
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from makemore_pl.errors import DataError, MakemoreError, MemoryLimitError, NotExactError, RequestError

MEDIA_TYPE = "application/problem+json"
BUSY = {"retry-after": "1"}

log = logging.getLogger("makemore.service")


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An answer with a sentence that says what is wrong."""
    fields = {"status": status, "title": HTTPStatus(status).phrase, "detail": " ".join(detail.split())}
    body = json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    return Response(body, status, headers, MEDIA_TYPE)


def add_handlers(app: Starlette) -> None:
    """Have every error answered in this way, and nothing of its inside told to clients."""
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(MakemoreError, _of_ours)
    app.add_exception_handler(MemoryError, _of_memory)
    app.add_exception_handler(Exception, _of_anything)


def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        detail = f"{request.method} is not for {request.url.path:.200}, only {headers.get('Allow', 'GET')}"
    elif error.status_code == 404 and error.detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is no {request.url.path:.200}; see /openapi.json"
    else:
        detail = error.detail
    return problem(error.status_code, detail, headers)


def _of_ours(request: Request, error: Exception) -> Response:
    if isinstance(error, MemoryLimitError):
        return _of_memory(request, error)
    if isinstance(error, NotExactError):
        return problem(400, f"such names cannot be drawn exactly, and the service draws no others: {error}")
    if isinstance(error, RequestError | DataError):  # the command's own sentence
        return problem(400, str(error))
    log.error("%s", error)  # the model's file, whose place is no client's business
    return problem(500, "the model cannot be computed; the server's log says why")


def _of_memory(request: Request, error: Exception) -> Response:
    log.error("out of memory: %s", error)
    return problem(503, "there is not enough memory for that now", BUSY)


def _of_anything(request: Request, error: Exception) -> Response:
    return problem(500, "the server has failed; its log says why")  # uvicorn logs the error
