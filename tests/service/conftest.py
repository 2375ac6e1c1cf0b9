"""A real server, over loopback."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers import ROOT

SECONDS = 120
"""Long enough for any machine; only what never happens takes longer."""


class Server:
    """`makemore serve` in a process of its own."""

    def __init__(self, model: Path, *options: object) -> None:
        command = [sys.executable, "-m", "makemore_pl", "serve", str(model), "--port", "0"]
        # A console of its own: a test's Ctrl-C ends the test, which ends this.
        self.process = subprocess.Popen(
            [*command, *map(str, options)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))},
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+) ", line)
        assert match, line + self.process.stderr.read()
        self.port = int(match[1])
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=SECONDS)
        self.get = self.client.get
        wait_until(lambda: self.get("/health").status_code == 200)

    def metric(self, name: str) -> float:
        """Sum of a metric's values, whatever their labels."""
        pattern = rf"^{name}(?:\{{.*\}})? (\S+)$"
        return sum(map(float, re.findall(pattern, self.get("/metrics").text, re.MULTILINE)))

    def end(self, number: int | None = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, if one is given; returns the exit code and what was printed meanwhile."""
        self.client.close()
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, err

    def kill(self) -> None:
        """Leave nothing behind."""
        self.client.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something has become true; an address that does not answer yet is not."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.05)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    return wait_until


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[..., Server]]:
    with ExitStack() as held:

        def start(*args: Any) -> Server:
            server = Server(*args)
            held.callback(server.kill)
            return server

        yield start


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], run_folder: Path) -> Server:
    return start_server(run_folder)
