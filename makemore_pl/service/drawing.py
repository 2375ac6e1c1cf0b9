"""Names for requests: few of them drawn together with those of other requests, many batch by batch."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import numpy as np
from anyio import CancelScope, CapacityLimiter
from starlette.exceptions import HTTPException

from makemore_pl.errors import RequestError, TooFewNamesError
from makemore_pl.runtime.request import Request, Wish
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.runtime.ways import Batch
from makemore_pl.service import counters
from makemore_pl.service.problems import BUSY

FEW = 1_000
"""So many names are drawn at once; more are streamed."""
AT_ONCE = 100
"""So many take a millisecond: less than it takes to wait for a thread."""
PART_DRAWS = 1 << 17
"""Of a stream, characters that are drawn at a time: what is not read yet takes no memory.

Enough that names are drawn from the file's table, and few enough for one thread: see engines.py."""
MOST_WAITING = 64
"""Requests that wait for a thread."""
MOST_SECONDS = 60.0
"""Of computing for one request."""

Row: TypeAlias = tuple[Any, ...]
"""A name, its log-likelihood, and its label if there are labels."""
Kind: TypeAlias = tuple[Sampler, Wish]
Result = TypeVar("Result")


class Threads:
    """As many threads as there are cores, at least two: NumPy and ONNX Runtime leave Python's lock.

    They stay until the end: each new thread may keep memory of its own (`share_freed_memory`).
    """

    def __init__(self) -> None:
        self.n = max(2, os.cpu_count() or 1)
        self._limiter = CapacityLimiter(self.n)
        self._pool = ThreadPoolExecutor(self.n, "makemore")

    async def run(
        self,
        function: Callable[[], Result],
        first: Callable[[], None] = lambda: None,
        *,
        has_begun: bool = False,
    ) -> Result:
        """Call a function in one of them.

        Args:
            function: it.
            first: called by the event loop as soon as a thread is free.
            has_begun: the answer has, and waits however many others do.

        Raises:
            HTTPException: 503, too many others wait.
        """
        if not has_begun and self._limiter.statistics().tasks_waiting >= MOST_WAITING:
            raise HTTPException(503, "busy; try again later", BUSY)
        async with self._limiter:
            first()
            running = asyncio.get_running_loop().run_in_executor(self._pool, function)
            with CancelScope(shield=True):  # the thread is busy, even if nobody waits for it any more
                await asyncio.wait([running])
            return running.result()


class Gathering:
    """Requests for one kind of names that are drawn in one call, and the task that draws them."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.n = 0
        self.task: asyncio.Task[list[list[Row]]]


class Together:
    """Draws what arrives at about the same time together: 32 names in one call take little more than one.

    Nothing waits for others. Requests join while the event loop reads them, or all threads are at work.

    Args:
        threads: where more than a few names are drawn.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._open: dict[Kind, Gathering] = {}

    async def rows(self, sampler: Sampler, request: Request) -> list[Row]:
        """The names of a request for few: its own uniforms make them, so others make no difference.

        Raises:
            RequestError: no such name can be drawn, or not without rejecting others.
        """
        kind = (sampler, request.wish())
        gathering = self._open.get(kind)
        if gathering is None or gathering.n + request.n > FEW:
            gathering = self._open[kind] = Gathering()
            gathering.task = asyncio.create_task(self._draw(kind, gathering))
        place = len(gathering.requests)
        gathering.requests.append(request)
        gathering.n += request.n
        rows = (await asyncio.shield(gathering.task))[place]
        counters.names.inc(len(rows))
        return rows

    async def _draw(self, kind: Kind, gathering: Gathering) -> list[list[Row]]:
        def close() -> None:
            if self._open.get(kind) is gathering:
                del self._open[kind]

        def draw() -> list[list[Row]]:
            return draw_together(*kind, gathering.requests)

        await asyncio.sleep(0)  # the requests that have arrived with the first one join
        try:
            if kind[1].is_plain and gathering.n <= AT_ONCE:
                return draw()
            return await self._threads.run(draw, close)
        finally:
            close()


def draw_together(sampler: Sampler, wish: Wish, requests: Sequence[Request]) -> list[list[Row]]:
    """For each of some requests for one kind of names, those that `Sampler.sample` draws for it alone.

    Raises:
        RequestError: no such name can be drawn, or not without rejecting others.
    """
    way = sampler.way(wish)
    unseeded = np.random.default_rng()
    generators = [unseeded if r.seed is None else np.random.default_rng(r.seed) for r in requests]
    uniforms = [
        generator.random((r.n, way.steps), dtype=np.float32)
        for r, generator in zip(requests, generators, strict=True)
    ]
    rows = rows_of(way.draw(np.concatenate(uniforms)))
    ends = np.cumsum([r.n for r in requests]).tolist()
    return [rows[end - r.n : end] for r, end in zip(requests, ends, strict=True)]


async def drawn(sampler: Sampler, request: Request, threads: Threads) -> AsyncIterator[list[Row]]:
    """The names of one request, some at a time, each time drawn when they are asked for.

    Raises:
        TooFewNamesError: there are no more.
        RequestError: no name is as asked for, or it takes too long.
    """

    def batches() -> Iterator[Batch]:
        way = sampler.way(request.wish())  # refuses names of which others must be rejected
        if request.unique:
            yield from sampler.stream(**vars(request))
        else:
            yield from way.batches(request.n, request.seed, max(1, PART_DRAWS // max(1, way.steps)))

    waiting, n_found, seconds = batches(), 0, 0.0

    def following() -> tuple[list[Row], float]:
        start = time.perf_counter()
        batch = next(waiting, None)
        return rows_of(batch) if batch else [], time.perf_counter() - start

    while n_found < request.n:
        if seconds > MOST_SECONDS:
            raise RequestError(f"more than {MOST_SECONDS:.0f} seconds of computing; ask for fewer names")
        rows, more = await threads.run(following, has_begun=n_found > 0)
        seconds += more
        if not rows:
            raise TooFewNamesError(request.n, n_found)
        counters.names.inc(len(rows))
        n_found += len(rows)
        yield rows


def rows_of(batch: Batch) -> list[Row]:
    """The names of a batch, each with what belongs to it."""
    return list(zip(*filter(None, batch), strict=True))
