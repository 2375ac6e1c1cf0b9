"""The list of Karpathy's makemore: from a folder of the user's, from the cache, or downloaded into it."""

import hashlib
import os
import tempfile
import urllib.request
from pathlib import Path

from makemore_pl.errors import DataError

SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"


def makemore_list() -> Path:
    """Find the list in `$MAKEMORE_DATA_DIR`, else in the user's cache, else download it into the cache.

    Raises:
        DataError: it cannot be downloaded, or a file found has another SHA-256.
    """
    folder = os.environ.get("MAKEMORE_DATA_DIR")
    cached = cache_dir() / "makemore-names.txt"
    for file in ([Path(folder) / "names.txt"] if folder else []) + [cached]:
        if file.is_file():
            _check_sha256(file.read_bytes(), str(file))
            return file
    content = _download()
    _check_sha256(content, URL)
    cached.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that an interrupted download leaves no half list.
    with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as part:
        part.write(content)
    Path(part.name).replace(cached)
    return cached


def cache_dir() -> Path:
    """The user's cache, below which this project keeps what it can compute or fetch again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "makemore_pl"


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
