"""Requests that want to do harm: one sentence and a 4xx for each, and the server answers others as before."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

PROBLEM = "application/problem+json"


def expect_problem(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    problem = answer.json()
    assert set(problem) == {"status", "title", "detail"}
    assert problem["status"] == status
    assert words in problem["detail"]
    assert "\n" not in problem["detail"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/names?n=1000001", 400, "n must be at most 1,000,000 here"),
        ("GET", "/names?n=" + "9" * 400, 400, "n must be at most 1,000,000 here"),
        ("GET", "/names?min_length=1001&max_length=5000", 400, "min-length must be at most 1,000 here"),
        ("GET", "/names?max_length=1001", 400, "max-length must be at most 1,000 here"),
        ("GET", "/names?prefix=%ff", 400, "UTF-8"),
        ("GET", "/names?n=1&n=2", 400, "n may be given once"),
        ("GET", "/names?temprature=1", 400, "did you mean temperature?"),
        ("GET", "/names?format=xml", 400, "format must be one of json, ndjson, text"),
        ("GET", "/names?unique=yes", 400, "unique must be true or false"),
        ("GET", "/names?match=(a*)*b%5C1", 400, "draws no others"),
        ("GET", "/names?banned=" + "a" * 17_000, 414, "a query has at most 16,384 bytes"),
        ("GET", "/score", 400, "no name is given"),
        ("GET", "/score?names=a", 400, "there is no option names"),
        ("GET", "/nothing/here", 404, "there is no /nothing/here"),
        ("GET", "/names/", 404, "there is no /names/"),
        ("GET", "/%2e%2e/etc/passwd", 404, "there is no"),
        ("POST", "/names", 405, "POST is not for /names"),
        ("DELETE", "/score", 405, "DELETE is not for /score"),
        ("TRACE", "/", 405, "TRACE is not for /"),
    ],
)
def test_urls(server: Any, method: str, path: str, status: int, words: str) -> None:
    answer = server.client.request(method, path)
    expect_problem(answer, status, words)
    if status == 405:
        assert "GET" in answer.headers["allow"]


def large(n_bytes: int) -> Iterator[bytes]:
    for _ in range(n_bytes >> 16):
        yield b"a" * (1 << 16)


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"[" * 500_000, "application/json", 400, "arrays within arrays"),
        (b'{"a":' * 100_000, "application/json", 400, "arrays within arrays"),
        (b"[1e999]", "application/json", 400, "name 1 must be a text"),
        (b"[NaN]", "application/json", 400, "name 1 must be a text, not NaN"),
        (b"9" * 10_000, "application/json", 400, "the body is no JSON"),
        (b'["\xff"]', "application/json", 400, "the body is no JSON"),
        (b"", "application/json", 400, "the body is no JSON"),
        (b'{"names": ["a"]}', "application/json", 400, "an array of texts is expected"),
        (b'["a", ["b"]]', "application/json", 400, "name 2 must be a text"),
        (b'["' + b"a" * 10_001 + b'"]', "application/json", 400, "name 1: more than 10,000 characters"),
        (b"a\n" + b"b" * 10_001, "text/plain", 400, "the body, line 2: more than 10,000 characters"),
        (b"caf\xe9", "text/plain; charset=latin-1", 400, "the body: not UTF-8"),
        (b"<names/>", "application/xml", 415, "application/json"),
        (b"a" * ((1 << 20) + 1), "text/plain", 413, "a body has at most 1,048,576 bytes"),
        (lambda: large(4 << 20), "text/plain", 413, "a body has at most 1,048,576 bytes"),
        (lambda: large(64 << 20), "text/plain", 413, "a body has at most 1,048,576 bytes"),
    ],
)
def test_bodies(server: Any, body: Any, kind: str, status: int, words: str) -> None:
    content = body() if callable(body) else body
    try:
        answer = server.client.post("/score", content=content, headers={"content-type": kind})
    except httpx.TransportError:
        assert callable(body)  # so much more than is allowed that the connection is closed before it is read
        assert server.get("/health").status_code == 200
        return
    expect_problem(answer, status, words)


def test_options_and_head(server: Any) -> None:
    options = server.client.options("/score")
    assert (options.status_code, options.content) == (204, b"")
    assert set(options.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    for path in ("/names?n=1000000", "/score?name=a", "/health", "/", "/openapi.json"):
        answer = server.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert server.client.head("/names?n=x").status_code == 400


def received(port: int, sent: bytes) -> bytes:
    """What a server answers until it closes the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        try:
            client.sendall(sent)
            while part := client.recv(1 << 16):
                answer += part
        except ConnectionError:
            pass  # the server has closed what it does not want to read
    return answer


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"NAMES\r\n\r\n",
        b"GET /names?n=1 HTTP/1.1\r\nhost: a\r\n" + b"x: " + b"y" * (1 << 20),
        b"GET /" + b"a" * (1 << 20),
        b"POST /score HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
    ],
)
def test_what_is_no_request(server: Any, sent: bytes) -> None:
    answer = received(server.port, sent)
    assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert b"Traceback" not in answer
    assert server.get("/health").status_code == 200


@pytest.mark.slow
def test_a_body_that_never_arrives_is_given_up(server: Any) -> None:
    head = b"POST /score HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n["
    answer = received(server.port, head)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body has not arrived within 20 seconds" in answer


@pytest.mark.slow
def test_a_client_that_leaves_within_its_body(start_server: Any, run_folder: Path) -> None:
    server = start_server(run_folder)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n[")
    assert server.get("/health").status_code == 200
    assert server.end() == (0, "")


@pytest.mark.slow
def test_a_stream_that_nobody_reads_is_given_up(
    server: Any, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /names?n=1000000 HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(100)
        assert server.metric("makemore_streams") == 1
        eventually(lambda: server.metric("makemore_streams") == 0)


@pytest.mark.slow
def test_too_many_connections(start_server: Any, run_folder: Path) -> None:
    resource = pytest.importorskip("resource")
    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1_200:
        pytest.skip("needs a thousand open files")
    server = start_server(run_folder)
    with ExitStack() as held:
        for _ in range(1_000):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert httpx.get(f"{server.client.base_url}/names?n=1").status_code == 503
    assert len(httpx.get(f"{server.client.base_url}/names?n=1").json()) == 1


def test_a_client_that_leaves_or_reads_nothing_takes_nothing(
    server: Any, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    """Back-pressure: what is not read is not made. A client that leaves ends its stream."""
    before = server.metric("makemore_names_total")
    url = server.client.build_request("GET", "/names?n=1000000").url
    with httpx.stream("GET", url, timeout=60) as answer:
        parts = answer.iter_raw(64)  # a name: httpx closes the connection with an iterator that is forgotten
        next(parts)
        assert server.metric("makemore_streams") == 1
        made = [-1.0]

        def has_stopped() -> bool:
            last, made[0] = made[0], server.metric("makemore_names_total") - before
            return made[0] == last

        for _ in range(3):  # nothing more is made while nothing is read
            eventually(has_stopped)
        assert 0 < made[0] < 900_000
    eventually(lambda: server.metric("makemore_streams") == 0)
    assert server.metric("makemore_names_total") - before < 1_000_000


@pytest.mark.slow
def test_requests_made_from_the_document(server: Any, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    base = f"http://127.0.0.1:{server.port}"
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{base}/openapi.json",
        "--max-examples",
        "60",
    ]
    # A value that fits its schema may still ask for what no name can be: an unknown character, a
    # contradiction of two options. So positive data may be refused.
    command += ["--exclude-checks", "positive_data_acceptance", "--seed", "1", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert server.get("/health").status_code == 200
