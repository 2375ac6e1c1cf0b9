"""Every command in a fresh home: what it leaves is what SECURITY.md says, and it asks nobody for anything."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import pytest
from helpers import QUICK, ROOT

from makemore_pl.cli import COMMANDS

FONTS = {".cache/matplotlib", ".config/matplotlib"}
"""Where Matplotlib keeps its list of the system's fonts."""
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "fit": ("--data.path", "list.txt", *QUICK),
    "validate": ("--ckpt_path", "run/best.ckpt", "--data.path", "list.txt"),
    "test": ("--ckpt_path", "run/best.ckpt", "--data.path", "list.txt"),
    "predict": ("--ckpt_path", "run/best.ckpt", "--data.path", "list.txt"),
    "lr-find": ("--data.path", "list.txt", "--steps", "100", "--max_lr", "1", "--plot", "given.png"),
    "export": ("run/best.ckpt", "-o", "given"),
    "verify": ("run/model.onnx", "run/best.ckpt"),
    "report": ("run/best.ckpt", "-o", "given.html", "--list", "list.txt"),
    "sample": ("run", "-n", "5000"),
    "score": ("run", "list.txt"),
    "info": ("run",),
    "page": ("run", "-o", "given"),
}
ASKED_ONCE = """\
import re, subprocess, sys, urllib.request
command = [sys.executable, "-m", "makemore_pl", "serve", "run", "--port", "0"]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
url = re.search(r"http://\\S+", server.stderr.readline())[0]
urllib.request.urlopen(f"{url}/names?n=2000&suffix=a").read()
server.terminate()
sys.exit(server.wait())
"""
"""`makemore serve`, which does not end by itself."""


class Remains(NamedTuple):
    """What a process left behind."""

    home: set[str]  # of all files and empty folders, the folder two levels deep
    temporary: set[str]  # of all files and folders
    place: set[str]  # new or changed, in the working folder
    sockets: list[str] | None  # system calls that name an internet address; None without strace


def remains(folder: Path, *command: str, **variables: str) -> Remains:
    """Run Python in `folder`/place with a fresh home."""
    home, temporary, place = folder / "home", folder / "temporary", folder / "place"
    for fresh in (home, temporary):
        fresh.mkdir()
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    kept = ("PATH", "OMP_NUM_THREADS", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), **variables}
    trace = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=network", "-o", str(folder / "trace")]
    traced = trace if shutil.which("strace") else []
    subprocess.run(
        [*traced, sys.executable, *command], cwd=place, env=environment, check=True, capture_output=True
    )
    left = [path.relative_to(home) for path in home.rglob("*") if path.is_file() or not any(path.iterdir())]
    changed = [path for path in place.rglob("*") if before.get(path) != path.stat().st_mtime_ns]
    lines = (folder / "trace").read_text().splitlines() if traced else None
    return Remains(
        {"/".join(path.parts[:2]) for path in left},
        {str(path.relative_to(temporary)) for path in temporary.rglob("*")},
        {path.relative_to(place).parts[0] for path in changed},
        None if lines is None else [line for line in lines if "AF_INET" in line],
    )


@pytest.fixture(scope="module", params=list(COMMANDS))
def left(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    run_folder: Path,
    short_list: Path,
) -> tuple[str, Remains]:
    """A command, and what it left."""
    folder = tmp_path_factory.mktemp("fresh")
    shutil.copytree(run_folder, folder / "place" / "run")
    shutil.copy(short_list, folder / "place" / "list.txt")
    if request.param == "serve":
        return request.param, remains(folder, "-c", ASKED_ONCE)
    return request.param, remains(folder, "-m", "makemore_pl", request.param, *ARGUMENTS[request.param])


@pytest.mark.slow
def test_a_command_leaves_what_is_documented(left: tuple[str, Remains]) -> None:
    command, found = left
    outputs = {"fit": "checkpoints", "lr-find": "given.png", "report": "given.html"}
    outputs |= {"export": "given", "page": "given"}
    assert found.home <= (set() if command in ("sample", "score", "info", "page", "serve") else FONTS)
    # PyTorch makes an empty folder for its compiler, which is not used.
    assert {name.partition("_")[0] for name in found.temporary} <= {"torchinductor"}
    assert found.place == ({outputs[command]} if command in outputs else set())


@pytest.mark.slow
def test_a_command_asks_nobody(left: tuple[str, Remains]) -> None:
    command, found = left
    if found.sockets is None:
        pytest.skip("strace is not installed")
    if command == "serve":
        addresses = {
            address for line in found.sockets for address in re.findall(r'inet_addr\("(.*?)"\)', line)
        }
        assert addresses == {"127.0.0.1"}
    else:
        assert found.sockets == []


@pytest.mark.slow
def test_the_trace_sees_a_socket(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    code = "import socket; socket.socket().connect_ex(('127.0.0.1', 9)); open('left', 'w')"
    found = remains(tmp_path, "-c", code)
    assert found.place == {"left"}
    if found.sockets is None:
        pytest.skip("strace is not installed")
    assert any("127.0.0.1" in line for line in found.sockets)


@pytest.mark.parametrize(("own", "expected"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_onnx_runtime_reports_only_if_the_user_says_so(
    tmp_path: Path, own: dict[str, str], expected: str
) -> None:
    (tmp_path / "place").mkdir()
    code = "import makemore_pl.exported.session, os; open(os.environ['ORT_DISABLE_TELEMETRY'], 'w')"
    found = remains(tmp_path, "-c", code, **own)
    assert found.place == {expected}
    reports = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 29)
    assert (found.home == set()) == (expected == "1" or not reports)


def test_onnx_runtime_is_imported_in_one_place() -> None:
    files = [
        file for file in (ROOT / "makemore_pl").rglob("*.py") if "import onnxruntime" in file.read_text()
    ]
    assert [file.name for file in files] == ["session.py"]
