"""The application: what is at which path."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from anyio import create_task_group
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from makemore_pl.memory import share_freed_memory
from makemore_pl.page.web_runtime import web_runtime
from makemore_pl.runtime.request import IdRequest, Request
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.service import counters, openapi
from makemore_pl.service.answers import NOT_STORED, StreamedNames, head, whole
from makemore_pl.service.bodies import expect_short, names_in, read_body
from makemore_pl.service.drawing import FEW, Threads, Together, drawn
from makemore_pl.service.problems import BUSY, add_handlers
from makemore_pl.service.queries import MAX_QUERY_BYTES, read_names_and_label, read_pairs, split_format
from makemore_pl.service.served_model import Watched

WATCH_SECONDS = 1.0
"""Between two looks at the model's files."""
FEW_CHARACTERS = 2_000
"""So many are scored at once."""
MOST_STREAMS = 32
"""At a time."""


class Service:
    """The endpoints. What takes a millisecond is done at once, everything else in a thread.

    Args:
        watched: the model.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._document = json.dumps(openapi.document(), ensure_ascii=False).encode()
        self._threads = Threads()
        self._together = Together(self._threads)
        self._n_streams = 0

    async def names(self, http: HttpRequest) -> Response:
        """New names."""
        model = self._watched.now
        request, form = model.read(_query_of(http), http.headers.get("accept", ""))
        if http.method == "HEAD":
            return head(form)
        if isinstance(request, IdRequest):
            return whole(await self._threads.run(partial(model.for_ids, request)), "ids", form)
        if request.n > FEW:
            return await self._stream(model.sampler, request, form)
        if request.unique:
            batches = drawn(model.sampler, request, self._threads)
            return whole([row async for batch in batches for row in batch], "names", form)
        return whole(await self._together.rows(model.sampler, request), "names", form)

    async def _stream(self, sampler: Sampler, request: Request, form: str) -> Response:
        if self._n_streams >= MOST_STREAMS:
            raise HTTPException(503, "too many streams; try again later, or ask for fewer names", BUSY)
        self._count_streams(1)
        try:
            batches = drawn(sampler, request, self._threads)
            first = await anext(batches)  # what is wrong shows here, before an answer has begun
        except BaseException:
            self._count_streams(-1)
            raise
        return StreamedNames(first, batches, form, lambda: self._count_streams(-1))

    def _count_streams(self, more: int) -> None:
        self._n_streams += more
        counters.streams.inc(more)

    async def score(self, http: HttpRequest) -> Response:
        """Log-likelihoods of given names."""
        model = self._watched.now
        pairs, form = split_format(read_pairs(_query_of(http)), http.headers.get("accept", ""))
        names, label = read_names_and_label(pairs, takes_names=http.method != "POST")
        if http.method == "POST":
            names = names_in(await read_body(http), http.headers.get("content-type", ""))
        expect_short(names)
        scorer = model.scorer_of(label)
        if http.method == "HEAD":
            return head(form)
        if sum(map(len, names)) + len(names) <= FEW_CHARACTERS:
            scores = scorer.score(names)
        else:
            scores = await self._threads.run(partial(scorer.score, names))
        counters.scores.inc(len(scores))
        return whole(scores, "scores and labels" if scorer.guesses_labels else "scores", form)

    async def health(self, http: HttpRequest) -> Response:
        """Which model is served."""
        info = self._watched.now.info
        content = {
            "status": "ok",
            "model": info.export_id,
            "newer_export_refused": self._watched.refused,
            "verification": info.verification,
        }
        body = json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")
        return Response(body, media_type="application/json", headers=NOT_STORED)

    async def metrics(self, http: HttpRequest) -> Response:
        """Counters and times."""
        body, media_type = await asyncio.to_thread(counters.exposition)
        return Response(body, headers={"content-type": media_type, **NOT_STORED})

    async def page(self, http: HttpRequest) -> Response:
        """The page, which makes names in its visitor's browser, and its files."""
        return self._watched.now.page.answer(http)

    async def openapi(self, http: HttpRequest) -> Response:
        """What can be asked for."""
        return Response(self._document, media_type="application/json")

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Watch the model's files while the application runs."""
        counters.begin()
        with suppress(asyncio.CancelledError):  # a second Ctrl-C; it would be printed with a traceback
            async with create_task_group() as tasks:
                tasks.start_soon(self._watch)
                yield
                tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await asyncio.to_thread(self._watched.look)


def _query_of(http: HttpRequest) -> bytes:
    query: bytes = http.scope["query_string"]
    if len(query) > MAX_QUERY_BYTES:
        raise HTTPException(414, f"a query has at most {MAX_QUERY_BYTES:,} bytes, not {len(query):,}")
    return query


def create_app(model: Path, runtime: Path | str | None = None) -> Starlette:
    """The application, with its model opened.

    Args:
        model: a `sampler.onnx` with `model.onnx` beside it, or a `model.onnx`.
        runtime: folder of onnxruntime-web for the page; with None, its visitors load it from a CDN.

    Raises:
        ModelFileError: there is no such file, or it is not sound.
        RequestError: the runtime is not there, or of another version.
    """
    share_freed_memory()
    service = Service(Watched(model, web_runtime(runtime)))
    routes = [
        Route("/names", service.names),
        Route("/score", service.score, methods=["GET", "POST"]),
        Route("/health", service.health),
        Route("/metrics", service.metrics),
        Route("/openapi.json", service.openapi),
        Route("/", service.page),
        Route("/{file}", service.page),
    ]
    paths = {route.path for route in routes[:-1]}
    counting = Middleware(counters.Counted, paths=paths)
    app = Starlette(routes=routes, middleware=[counting], lifespan=service.lifespan)
    app.router.redirect_slashes = False
    add_handlers(app)
    return app
