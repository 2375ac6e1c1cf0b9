"""Computing for requests in few threads, with an end to waiting and to computing."""

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException

from makemore_pl.errors import RequestError, TooFewNamesError
from makemore_pl.runtime.request import Request
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.service import counters
from makemore_pl.service.problems import BUSY
from makemore_pl.service.reservoir import Row

PART = 1_000
"""Names in one chunk of a stream."""
MOST_STREAMS = 32
"""At a time: each holds names that its client has not read yet, about 10 MB."""
MOST_WAITING = 64
"""Requests that wait for a thread."""
MOST_SECONDS = 60.0
"""Of computing for one request."""

Result = TypeVar("Result")


class Threads:
    """As many threads as there are cores, at least two: NumPy and ONNX Runtime leave Python's lock."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(max(2, os.cpu_count() or 1))

    async def run(self, function: Callable[[], Result]) -> Result:
        """Call a function in one of them.

        Raises:
            HTTPException: 503, too many others wait.
        """
        if self._limiter.statistics().tasks_waiting >= MOST_WAITING:
            raise HTTPException(503, "busy; try again later", BUSY)
        return await to_thread.run_sync(function, limiter=self._limiter)


class Stream:
    """Many names, drawn batch by batch as their reader takes them.

    Args:
        sampler: the model.
        request: which names.
        threads: where they are drawn.
    """

    def __init__(self, sampler: Sampler, request: Request, threads: Threads) -> None:
        self._batches = within_time(sampler, request)
        self._n = request.n
        self._threads = threads
        self._first: list[Row] | None = None

    async def start(self) -> None:
        """Draw the first batch: what is wrong with a request shows here, before an answer has begun."""
        self._first = await self._next()
        if not self._first:
            raise TooFewNamesError(self._n, 0)

    async def parts(self) -> AsyncIterator[list[Row]]:
        """The names, some at a time.

        Raises:
            TooFewNamesError, RequestError: there are no more, or it takes too long.
        """
        rows, self._first = self._first, None
        found = 0
        while rows:
            for start in range(0, len(rows), PART):
                part = rows[start : start + PART]
                counters.names.inc(len(part))
                yield part
            found += len(rows)
            rows = await self._next() if found < self._n else None
        if found < self._n:
            raise TooFewNamesError(self._n, found)

    async def _next(self) -> list[Row]:
        return await self._threads.run(lambda: next(self._batches, []))


def draw_all(sampler: Sampler, request: Request) -> list[Row]:
    """All names of a small request.

    Raises:
        TooFewNamesError: there are no more.
        RequestError: no name is as asked for, or it takes too long.
    """
    rows = [row for batch in within_time(sampler, request) for row in batch]
    if len(rows) < request.n:
        raise TooFewNamesError(request.n, len(rows))
    return rows


def within_time(sampler: Sampler, request: Request) -> Iterator[list[Row]]:
    """Batches of names, until they have taken too much time. Raises RequestError then."""
    spent = 0.0
    batches: Iterator[list[Row]] | None = None
    while True:
        start = time.perf_counter()
        if batches is None:
            stream = sampler.stream(**vars(request))
            batches = (list(zip(batch.names, batch.log_probs, strict=True)) for batch in stream)
        rows = next(batches, None)
        if rows is None:
            return
        yield rows
        spent += time.perf_counter() - start
        if spent > MOST_SECONDS:
            raise RequestError(f"more than {MOST_SECONDS:.0f} seconds of computing; ask for fewer names")
