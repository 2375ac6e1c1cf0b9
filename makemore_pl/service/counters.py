"""What is counted and timed, for Prometheus; with several workers, over all of them."""

import asyncio
import logging
import os
import time
from collections.abc import Collection
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client import multiprocess as several
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from makemore_pl.service.server import SHARED

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

OTHER = "other"
"""The route of the page's files, and of paths that do not exist: clients may ask for any number of them."""

registry = CollectorRegistry()
requests = Counter(
    "makemore_requests", "Answers, by route and status.", ["route", "status"], registry=registry
)
seconds = Histogram(
    "makemore_request_seconds",
    "From a request's head to the end of its answer, streams included.",
    ["route"],
    buckets=SECONDS,
    registry=registry,
)
names = Counter("makemore_names", "Names made.", registry=registry)
scores = Counter("makemore_scores", "Names scored.", registry=registry)
streams = Gauge(
    "makemore_streams", "Streams of names at present.", registry=registry, multiprocess_mode="livesum"
)
reloads = Counter("makemore_reloads", "Replaced exports, by outcome.", ["outcome"], registry=registry)
loaded = Gauge(
    "makemore_model_loaded_timestamp_seconds",
    "Time when the export that is served was opened.",
    registry=registry,
    multiprocess_mode="mostrecent",
)


def exposition() -> tuple[bytes, str]:
    """All of it in Prometheus's text format, and the format's media type."""
    if SHARED in os.environ:
        shared = CollectorRegistry()
        several.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared), CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_LATEST


def begin() -> None:
    """Begin to count in this process."""
    if SHARED not in os.environ:
        ProcessCollector(registry=registry)
        return
    for file in Path(os.environ[SHARED]).glob("gauge_live*_*.db"):  # of workers that were killed
        pid = int(file.stem.rpartition("_")[2])
        if not _is_alive(pid):
            several.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


class Counted:
    """An ASGI middleware that counts and times every answer.

    Args:
        app: what answers.
        paths: the application's.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app, self._paths = app, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, status = time.perf_counter(), 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except asyncio.CancelledError:
            # By the server that ends. It would print a traceback for each.
            logging.getLogger("makemore.service").warning("the server ends before the answer does")
        finally:
            path = scope["path"] if scope["path"] in self._paths else OTHER
            requests.labels(path, status).inc()
            seconds.labels(path).observe(time.perf_counter() - start)
