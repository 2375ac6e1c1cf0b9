"""How a server begins, ends, and takes over a new export."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers import QUICK, ROOT, RunCommand, assert_one_line_error

from makemore_pl.cli import main

Eventually = Callable[[Callable[[], bool]], None]
FILES = ("model.onnx", "sampler.onnx")


@pytest.fixture(scope="module")
def other_export(tmp_path_factory: pytest.TempPathFactory, short_list: Path) -> Path:
    """Another training on the same list."""
    folder = tmp_path_factory.mktemp("other")
    where = ["--trainer.default_root_dir", str(folder), "--run", "run", "--seed_everything", "7"]
    with pytest.raises(SystemExit) as end:
        main(["fit", "--data.path", str(short_list), "--data.batch_size", "64", *QUICK, *where])
    assert end.value.code == 0
    return folder / "run"


def replace(source: Path, folder: Path) -> None:
    for name in FILES:
        shutil.copy(source / name, folder / "new")
        (folder / "new").rename(folder / name)


def test_a_new_export_is_served_and_a_broken_one_is_not(
    start_server: Any, run_folder: Path, other_export: Path, tmp_path: Path, eventually: Eventually
) -> None:
    for name in FILES:
        shutil.copy(run_folder / name, tmp_path)
    server = start_server(tmp_path)
    health = lambda: server.get("/health").json()  # noqa: E731
    first = health()["model"]
    names = server.get("/names?seed=1&suffix=a").text

    (tmp_path / "new").write_bytes((run_folder / "sampler.onnx").read_bytes()[:-1_000])
    (tmp_path / "new").rename(tmp_path / "sampler.onnx")
    eventually(lambda: health()["newer_export_refused"])
    assert health()["model"] == first
    assert server.get("/names?seed=1&suffix=a").text == names

    replace(other_export, tmp_path)
    eventually(lambda: health()["model"] != first)
    assert not health()["newer_export_refused"]
    assert server.get("/names?seed=1&suffix=a").text != names
    assert server.get("/sampler.onnx").content == (other_export / "sampler.onnx").read_bytes()
    assert server.get("/names", params={"model": first}).status_code == 400

    for name in FILES:
        (tmp_path / name).unlink()
    eventually(lambda: health()["newer_export_refused"])
    assert len(server.get("/names?n=3").json()) == 3
    assert server.metric("makemore_reloads_total") >= 3
    code, err = server.end()
    assert code == 0
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_ends_as_it_should_before_the_server_does(
    start_server: Any, run_folder: Path, number: signal.Signals
) -> None:
    server = start_server(run_folder)
    with httpx.stream("GET", f"{server.client.base_url}/names?n=400000&format=ndjson", timeout=60) as answer:
        parts = answer.iter_bytes()
        received = [next(parts)]
        os.kill(server.process.pid, number)
        received += parts
    assert b"".join(received).count(b"\n") == 400_000
    code, err = server.end(None)  # a second signal would be: at once
    assert (code, err) == (0, "")


@pytest.mark.slow
def test_a_stream_that_nobody_reads_does_not_keep_the_server(start_server: Any, run_folder: Path) -> None:
    server = start_server(run_folder)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /names?n=1000000 HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(100)
        code, err = server.end()
    assert code == 0
    assert "a stream is cut short" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_second_interrupt_ends_the_server_at_once(start_server: Any, run_folder: Path) -> None:
    server = start_server(run_folder)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /names?n=1000000 HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(100)
        server.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):  # the stream may still be read
            server.process.wait(1)
        _, err = server.end(signal.SIGINT)
    assert "Traceback" not in err
    assert "the server ends before the answer does" in err


@pytest.mark.slow
def test_several_workers(start_server: Any, run_folder: Path, eventually: Eventually) -> None:
    """One answers while the other is killed, and replaced; what they count is counted together."""
    server = start_server(run_folder, "--workers", 2)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    if not children.exists():
        pytest.skip("needs Linux: finds the workers in /proc")

    def workers() -> list[int]:
        """Spawned processes, but for Python's own that tracks resources."""
        pids = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    eventually(lambda: len(workers()) == 2)

    def ask(n: int) -> None:
        for _ in range(n):  # a new connection each: either worker may take it
            assert len(httpx.get(f"{server.client.base_url}/names?n=5", timeout=60).json()) == 5

    ask(20)
    assert server.metric("makemore_names_total") == 100
    first, second = workers()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(workers()) == 2 and first not in workers())
    assert second in workers()

    def answers() -> bool:
        ask(1)
        return True

    for _ in range(20):
        eventually(answers)
    assert server.metric("makemore_names_total") >= 120
    code, err = server.end()
    assert code == 0
    assert "Traceback" not in err
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_h11_reads_requests_though_another_parser_is_installed(
    start_server: Any, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only h11 has a limit for a request's head."""
    (tmp_path / "httptools.py").write_text("raise RuntimeError('it is used')")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", str(ROOT))]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    assert start_server(run_folder).end() == (0, "")


def test_errors_are_one_line(makemore: RunCommand, run_folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = makemore("serve", run_folder, "--port", port)
    assert result.code == 2
    assert_one_line_error(result.err, f"cannot listen on 127.0.0.1 port {port}: Address already in use")
    for options, message in (
        (("--port", "70000"), "port must be at least 0 and at most 65,535, not 70000"),
        (("--workers", "0"), "workers must be at least 1"),
        (("--host", "no.such.host.invalid"), "cannot listen on no.such.host.invalid"),
        (("--runtime", str(tmp_path)), "onnxruntime-web"),
    ):
        result = makemore("serve", run_folder, *options, *(() if "--port" in options else ("--port", "0")))
        assert result.code == 2
        assert_one_line_error(result.err, message)
    assert_one_line_error(makemore("serve", tmp_path, "--port", 0).err, "holds no model.onnx")


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client"])
def test_without_the_extra(run_folder: Path, package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"  # as if it were not installed
        "from makemore_pl.cli import main\n"
        f"main(['serve', {str(run_folder)!r}, '--port', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert_one_line_error(done.stderr, f"'makemore serve' needs the package {package}")
    assert "pip install -e '.[serve]'" in done.stderr
