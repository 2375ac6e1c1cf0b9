"""Counts every answer, and times it."""

import time
from collections.abc import Collection
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from makemore_pl.service import counters

OTHER = "other"
"""The route of the page's files, and of paths that do not exist: clients may ask for any number of them."""


class Timing:
    """An ASGI middleware.

    Args:
        app: what answers.
        paths: the application's.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._seconds = {path: counters.seconds.labels(path) for path in [*paths, OTHER]}
        self._counter = lru_cache(1_000)(counters.requests.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        path = scope["path"] if scope["path"] in self._seconds else OTHER
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._counter(path, status).inc()
            self._seconds[path].observe(time.perf_counter() - start)
