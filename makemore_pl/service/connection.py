"""One client's connection, with an end to everything that it may keep the server waiting for."""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from makemore_pl.service.problems import MEDIA_TYPE, problem_body
from makemore_pl.service.server import GRACE_SECONDS

ARRIVAL_SECONDS = 20.0
"""A request must have arrived as a whole by then."""
READING_SECONDS = 30.0
"""Longest wait for a client that reads nothing of what is ready for it (64 KiB)."""
MAX_HEAD_BYTES = 64 << 10
"""Of a request line with its headers."""
MAX_CONNECTIONS = 1_000
"""Of one worker."""


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """HTTP/1.1 as uvicorn speaks it, with limits that uvicorn does not have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrival: asyncio.TimerHandle | None = None
        self.reading: asyncio.TimerHandle | None = None
        self.head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self.refuse(503, "too many connections; try again later")
        else:
            self.expect_arrival()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:  # a head, of which the end is missing
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.refuse(431, f"a request line and its headers have at most {MAX_HEAD_BYTES:,} bytes")
            self.expect_arrival()
        elif cycle.more_body:
            self.head_bytes = 0
            self.expect_arrival()
        else:
            self.head_bytes = 0
            if self.arrival is not None:
                self.arrival.cancel()
                self.arrival = None

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self.arrival, self.reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.reading = self.loop.call_later(READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.reading is not None:
            self.reading.cancel()
            self.reading = None

    def shutdown(self) -> None:
        """End what is being answered within the time that is left. The server calls this when it ends."""
        super().shutdown()
        self.loop.call_later(GRACE_SECONDS, self.transport.abort)

    def expect_arrival(self) -> None:
        """Give the client until then, counted from the first byte (or from the connection)."""
        if self.arrival is None:
            self.arrival = self.loop.call_later(ARRIVAL_SECONDS, self.too_slow)

    def too_slow(self) -> None:
        """Close the connection. If nothing has been answered yet, say why."""
        if self.cycle is None or self.cycle.response_complete:
            self.refuse(408, f"the request has not arrived within {ARRIVAL_SECONDS:.0f} seconds")
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP. uvicorn calls this, with a sentence of its own."""
        self.refuse(400, msg)

    def refuse(self, status: int, detail: str) -> None:
        """Answer what never becomes a request, and close the connection."""
        body = problem_body(status, detail)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
