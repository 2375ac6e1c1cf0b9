"""Requests per second for one name each: `makemore serve` beside LitServe and a plain Starlette route.

    pip install --target FOLDER litserve
    PYTHONPATH=FOLDER python scripts/bench_serve.py checkpoints/NAME [--rounds 5] [--seconds 4]

All servers run at once, each a process (LitServe two), and are asked in turns by wrk with 32 connections; the
figures are medians over the rounds. What is not installed is left out.
"""

import argparse
import importlib.util
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

from makemore_pl import Sampler

POST = """\
wrk.method = "POST"
wrk.body = '{"n": 1}'
wrk.headers["Content-Type"] = "application/json"
"""
WAYS = {
    "LitServe": ("litserve", "/predict"),
    "LitServe, fast_queue": ("litserve-fast", "/predict"),
    "plain Starlette route": ("starlette", "/names?n=1"),
    "makemore serve": ("ours", "/names?n=1"),
    "makemore serve, 10 names": ("ours", "/names?n=10"),
    "makemore serve, one name of a seed": ("ours", "/names?n=1&seed=1"),
    "makemore serve, one name that ends in a": ("ours", "/names?n=1&suffix=a"),
    "makemore serve, one score": ("ours", "/score?name=emma"),
}
"""What is measured: the server, and what it is asked for."""


if importlib.util.find_spec("litserve"):
    import litserve

    class NamesAPI(litserve.LitAPI):  # type: ignore[misc]
        """The Lightning way. LitServe starts a process for it, which must find it here."""

        def setup(self, device: str) -> None:
            self.sampler = Sampler(os.environ["BENCH_MODEL"])

        def decode_request(self, request: dict[str, int]) -> int:
            return request["n"]

        def predict(self, n: int) -> list[str]:
            return self.sampler.sample(n)

        def encode_response(self, names: list[str]) -> dict[str, list[str]]:
            return {"names": names}


def run_litserve(model: Path, port: int, *, fast: bool) -> None:
    """LitServe with its defaults, or with its faster queue."""
    os.environ["BENCH_MODEL"] = str(model)
    server = litserve.LitServer(NamesAPI(), accelerator="cpu", fast_queue=fast)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error", access_log=False)


def run_starlette(model: Path, port: int) -> None:
    """What one would write first."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    sampler = Sampler(model)

    async def names(request: Request) -> JSONResponse:
        return JSONResponse({"names": sampler.sample(int(request.query_params["n"]))})

    app = Starlette(routes=[Route("/names", names)])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def start(kind: str, model: Path, port: int) -> "subprocess.Popen[bytes]":
    """Start one of the servers in a process group of its own."""
    command = [sys.executable, __file__, str(model), "--run", kind, "--port", str(port)]
    if kind == "ours":
        command = [sys.executable, "-m", "makemore_pl", "serve", str(model), "--port", str(port)]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server with all its processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def wait_for(port: int, path: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers."""
    body = b'{"n": 1}' if path == "/predict" else None
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=body, headers={"content-type": "application/json"}
    )
    for _ in range(600):
        with suppress(OSError):
            urllib.request.urlopen(request, timeout=10).close()
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the server at port {port} does not answer")


def wrk(port: int, path: str, seconds: int, script: Path) -> float:
    """Requests per second."""
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s"]
    if path == "/predict":
        command += ["-s", str(script)]
    url = f"http://127.0.0.1:{port}{path}"
    out = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out:
        sys.exit(f"{url}: {out}")
    match = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert match, out
    return float(match[1])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="an export's folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--run", choices=("litserve", "litserve-fast", "starlette"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run == "starlette":
        return run_starlette(args.model, args.port)
    if args.run:
        return run_litserve(args.model, args.port, fast=args.run == "litserve-fast")

    has_litserve = importlib.util.find_spec("litserve") is not None
    ways = {label: way for label, way in WAYS.items() if has_litserve or not way[0].startswith("litserve")}
    rates: dict[str, list[float]] = {label: [] for label in ways}
    with ExitStack() as held, tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(POST)
        script.flush()
        ports: dict[str, int] = {}
        for kind, path in ways.values():
            if kind not in ports:
                ports[kind] = free_port()
                process = start(kind, args.model, ports[kind])
                held.callback(stop, process)
                wait_for(ports[kind], path, process)
        for repetition in range(args.rounds + 1):  # the first one warms up
            for label, (kind, path) in ways.items():
                rate = wrk(ports[kind], path, args.seconds if repetition else 1, Path(script.name))
                if repetition:
                    rates[label].append(rate)
    base = statistics.median(rates["LitServe" if has_litserve else "plain Starlette route"])
    print(f"| 32 connections | requests/s | beside {'LitServe' if has_litserve else 'plain Starlette'} |")
    print("|---|---:|---:|")
    for label, values in rates.items():
        rate = statistics.median(values)
        print(f"| {label} | {rate:,.0f} | {rate / base:.1f} |")
    return None


if __name__ == "__main__":
    main()
