"""Pages, of a trained model and of one whose characters are markup, behind a web server."""

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import EVIL, ROOT, SCRIPTS, random_weights

from makemore_pl.export.onnx_file import save_checked
from makemore_pl.exported.metadata import SAMPLER_FILE, ModelInfo
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.page.page_folder import write_page
from makemore_pl.vocabulary import Vocabulary

EVIL_CHARACTERS = (
    "<>&\"'/ =scriptaley\N{MATHEMATICAL SCRIPT CAPITAL A}\N{GRINNING FACE}\N{ARABIC LETTER MEEM}é"
)


@pytest.fixture(scope="session")
def web_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with onnxruntime-web: the clone's `web_runtime`, if there is one, or fetched from npm."""
    if (ROOT / "web_runtime").is_dir():
        return ROOT / "web_runtime"
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: onnxruntime-web cannot be fetched")
    folder = tmp_path_factory.mktemp("web") / "runtime"
    command = ["bash", str(SCRIPTS / "web_runtime.sh"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"npm cannot fetch onnxruntime-web: {done.stderr.strip()[:200]}")
    return folder


@pytest.fixture(scope="session")
def evil_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sampler whose names are made of markup, and whose list is named by it."""
    folder = tmp_path_factory.mktemp("evil")
    vocabulary = Vocabulary(EVIL_CHARACTERS)
    weights = random_weights(len(vocabulary), hidden=[16])
    info = ModelInfo(vocabulary.characters, 3, 6, 16, 1, 999, "mlp", 12, EVIL, "0" * 64, "0" * 16)
    save_checked(build_sampler(weights, "mlp", vocabulary.token_codepoints), info, folder / SAMPLER_FILE)
    return folder


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory, run_folder: Path, web_runtime: Path) -> Path:
    """The page of a trained model, with the runtime in its folder."""
    return write_page(run_folder, tmp_path_factory.mktemp("page") / "names", web_runtime)


@pytest.fixture(scope="session")
def evil_page(tmp_path_factory: pytest.TempPathFactory, evil_export: Path, web_runtime: Path) -> Path:
    """The page of the sampler of markup."""
    return write_page(evil_export, tmp_path_factory.mktemp("page") / "evil", web_runtime)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """What `python -m http.server` does, without its log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve a folder on this machine; gives its address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        handler = functools.partial(QuietHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
