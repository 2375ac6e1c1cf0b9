"""Clients that keep a connection and do nothing with it; the limits, which are seconds, are shortened."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from makemore_pl.service import connection


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """Answers with more than anybody reads; a body is read first."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"a" * (1 << 20), "more_body": True})
        await asyncio.sleep(0)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", 0.3)
    monkeypatch.setattr(connection, "READING_SECONDS", 0.3)
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 3)
    config = uvicorn.Config(
        endless, http=connection.Connection, lifespan="off", log_config=None, loop="asyncio", ws="none"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = server.force_exit = True
        thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def read_all(client: socket.socket) -> bytes:
    received = b""
    try:
        while part := client.recv(1 << 16):
            received += part
    except ConnectionError:
        pass
    return received


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nhost: a\r\n", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nab"],
)
def test_a_request_that_never_arrives_is_given_up(port: int, sent: bytes) -> None:
    with connect(port) as client:
        client.sendall(sent)
        received = read_all(client)  # ends, as the connection does
    if not sent.startswith(b"POST"):
        assert b" 408 " in received
        assert b"has not arrived within" in received


def test_an_answer_that_nobody_reads_is_given_up(
    port: int, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    with connect(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        time.sleep(1)  # reads nothing meanwhile
        assert read_all(client)  # what lay there; the rest never comes, so this ends


def test_too_many_connections(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nhost: a\r\n"
    clients = [connect(port) for _ in range(3)]
    for client in clients:
        client.sendall(request)
    with connect(port) as one_more:
        assert b"too many connections" in read_all(one_more)
    for client in clients:
        client.close()
