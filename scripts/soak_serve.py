"""Keeps `makemore serve` at full load for a given time, and watches its memory.

    python scripts/soak_serve.py checkpoints/NAME [--minutes 10] [--most-growth 32]

wrk asks for single names over 32 connections all the time. Beside it, others ask for seeded names, wishes,
ids, scores and what is refused, read long streams to their end, and leave streams half-read. Exit code 1 if
memory has grown by more MiB than allowed from the third minute on, if an answer is other than it should be,
or if a stream is left over. Linux: memory is read in /proc.
"""

import argparse
import http.client
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

WARM_UP_SECONDS = 120.0
"""Memory has been taken for good by then: only growth from there on counts."""
STREAMED = 300_000
"""Names of a long stream."""


def requests(rng: random.Random) -> tuple[str, int]:
    """A path, and the status that its answer should have."""
    letter = rng.choice("aeiou")
    return rng.choice(
        [
            (f"/names?n={rng.randint(1, 900)}&seed={rng.randint(0, 10**9)}", 200),
            (f"/names?n=50&suffix={letter}&min_length={rng.randint(1, 6)}&max_length=9", 200),
            (f"/names?n=200&unique=true&temperature={rng.uniform(0.8, 2):.3f}", 200),
            (f"/names?ids=user-{rng.random()}&ids=b", 200),
            (f"/score?name={letter * rng.randint(1, 50)}", 200),
            (f"/names?temperature=-{rng.random()}", 400),
            (f"/nothing/{rng.random()}", 404),
            ("/openapi.json", 200),
            ("/metrics", 200),
            ("/", 200),
        ]
    )


class Clients:
    """Threads that ask until they are told to end."""

    def __init__(self, port: int) -> None:
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.ended = threading.Event()
        self._port = port
        ways = (self._ask, self._read_streams, self._leave_streams)
        self._threads = [threading.Thread(target=way, args=(seed,)) for seed, way in enumerate(ways)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait for what is being read."""
        self.ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        rng = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        while not self.ended.is_set():
            path, status = requests(rng)
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            self._note("answers of many kinds", answer.status == status, f"{path}: {answer.status}")

    def _read_streams(self, seed: int) -> None:
        while not self.ended.is_set():
            answer = self._open_stream()
            lines = 0
            while part := answer.read(1 << 16):
                lines += part.count(b"\n")
            self._note("streams read to their end", lines == STREAMED, f"a stream of {lines:,} names")
            time.sleep(1)

    def _leave_streams(self, seed: int) -> None:
        while not self.ended.is_set():
            answer = self._open_stream()
            self._note("streams left half-read", len(answer.read(10_000)) == 10_000, "a short stream")
            answer.close()
            time.sleep(0.5)

    def _open_stream(self) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        connection.request("GET", f"/names?n={STREAMED}&format=text", headers={"connection": "close"})
        return connection.getresponse()

    def _note(self, what: str, is_right: bool, otherwise: str) -> None:
        self.done[what] += 1
        if not is_right:
            self.wrong.append(otherwise)


def resident_mebibytes(pid: int) -> float:
    """Memory of a process."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0


def streams_left(port: int) -> float:
    """Streams that the server still counts, some seconds after the last client has left."""
    time.sleep(5)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    match = re.search(r"^makemore_streams (\S+)", connection.getresponse().read().decode(), re.MULTILINE)
    return float(match[1]) if match else -1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="an export's folder")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--most-growth", type=float, default=32.0, help="MiB")
    args = parser.parse_args()

    command = [sys.executable, "-m", "makemore_pl", "serve", str(args.model), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    match = re.search(r":(\d+) \(", server.stderr.readline())
    if match is None:
        sys.exit("the server does not start")
    port, seconds = int(match[1]), args.minutes * 60
    url = f"http://127.0.0.1:{port}/names?n=1"
    wrk = subprocess.Popen(
        ["wrk", "-t1", "-c32", f"-d{int(seconds)}s", url], stdout=subprocess.PIPE, text=True
    )
    clients = Clients(port)
    clients.start()
    start, memory = time.monotonic(), []
    while (passed := time.monotonic() - start) < seconds:
        time.sleep(min(10, seconds - passed))
        memory.append((time.monotonic() - start, resident_mebibytes(server.pid)))
        print(f"{memory[-1][0]:6.0f} s {memory[-1][1]:8.1f} MiB", flush=True)
    clients.end()
    out, _ = wrk.communicate()
    left = streams_left(port)
    server.terminate()
    code = server.wait(60)
    after = [mebibytes for at, mebibytes in memory if at >= min(WARM_UP_SECONDS, seconds / 2)]
    growth = after[-1] - after[0]
    print(out)
    print(json.dumps(dict(clients.done)))
    print(f"memory: {after[0]:.1f} to {after[-1]:.1f} MiB, at most {max(after):.1f}; exit code {code}")
    problems = [*clients.wrong[:5]]
    if growth > args.most_growth:
        problems.append(f"memory has grown by {growth:.1f} MiB")
    if left:
        problems.append(f"{left:.0f} streams are left over")
    if code or "Non-2xx" in out:
        problems.append("the server did not answer, or did not end, as it should")
    print("; ".join(problems) or "nothing wrong")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
