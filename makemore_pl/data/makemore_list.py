"""The list of Karpathy's makemore: from a folder of the user's, from the cache, or downloaded into it."""

import atexit
import hashlib
import os
import shutil
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path

from makemore_pl.errors import DataError

SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"


def makemore_list() -> Path:
    """Find the list in `$MAKEMORE_DATA_DIR`, else in the user's cache, else download it into the cache.

    Where the cache cannot be written, the downloaded list lies in a temporary folder until the process ends.

    Raises:
        DataError: it cannot be downloaded, or a file found has another SHA-256.
    """
    own = os.environ.get("MAKEMORE_DATA_DIR")
    if own and (file := Path(own) / "names.txt").is_file():
        _check_sha256(file.read_bytes(), str(file))
        return file
    with suppress(OSError):  # not there, or not to be read
        cached = cache_dir() / "makemore-names.txt"
        _check_sha256(cached.read_bytes(), str(cached))
        return cached
    content = _download()
    _check_sha256(content, URL)
    try:
        return _keep(content, cache_dir())
    except OSError:
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return _keep(content, Path(folder))


def _keep(content: bytes, folder: Path) -> Path:
    """Write the list beside its place and rename it, so that an interrupted download leaves no half list."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        part = Path(beside) / "part"
        part.write_bytes(content)
        return part.replace(folder / "makemore-names.txt")


def cache_dir() -> Path:
    """The user's cache, below which this project keeps what it can compute or fetch again.

    Raises:
        OSError: the user has no home, as in a container without an entry for the user's number.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "makemore_pl"
    except RuntimeError as error:  # Python's own type for a home that cannot be found
        raise FileNotFoundError(str(error)) from error


def _download() -> bytes:
    from rich.progress import wrap_file  # slow to import, and needed once

    try:
        with urllib.request.urlopen(URL, timeout=30) as response:
            total = int(response.headers.get("Content-Length", 0))
            with wrap_file(response, total=total, description="makemore list") as file:
                content: bytes = file.read()
                return content
    except OSError as error:  # URLError is one
        raise DataError(
            f"the makemore list could not be downloaded ({error}); put its names.txt into a folder and "
            "set MAKEMORE_DATA_DIR to it"
        ) from error


def _check_sha256(content: bytes, source: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(f"{source}: not the makemore list (SHA-256 {found[:12]}…, not {SHA256[:12]}…)")
