"""onnxruntime-web, the runtime of browsers: the one version that pages use, and where a page has it from."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from makemore_pl.errors import RequestError
from makemore_pl.files import reading

WEB_VERSION = "1.30.0"
"""The newest within pyproject.toml's bounds for onnxruntime; scripts/web_runtime.sh gets it."""
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{WEB_VERSION}/dist/"
"""A public mirror of npm's packages, file by file."""
SCRIPT = "ort.wasm.bundle.min.mjs"
WASM = "ort-wasm-simd-threaded.wasm"
INTEGRITY = {
    SCRIPT: "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    WASM: "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
"""Subresource integrity of npm's files. A browser refuses others, wherever they come from."""


@dataclass(frozen=True)
class WebRuntime:
    """The place that a page loads the runtime from."""

    base: str  # what stands before the files' names in an address
    files: dict[str, bytes]  # those that belong into the page's folder


def web_runtime(folder: Path | str | None) -> WebRuntime:
    """The runtime from a folder, to be copied; or from the CDN, without a folder.

    Args:
        folder: of the npm package, or of its folder `dist`.

    Raises:
        RequestError: a file is missing, or is not that of the version that pages use.
    """
    if folder is None:
        return WebRuntime(CDN, {})
    place = Path(folder)
    if (place / "dist").is_dir():
        place /= "dist"
    return WebRuntime("", {name: _read(place / name) for name in (SCRIPT, WASM)})


def integrity(content: bytes) -> str:
    """Subresource integrity of a file, as in HTML."""
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


def _read(file: Path) -> bytes:
    needed = f"runtime: {SCRIPT} and {WASM} of the npm package onnxruntime-web@{WEB_VERSION} are needed"
    if not file.is_file():
        raise RequestError(f"{needed}; there is no {file}")
    with reading(file, RequestError):
        content = file.read_bytes()
    if integrity(content) != INTEGRITY[file.name]:
        raise RequestError(f"{needed}; {file} is another version's, or has been changed")
    return content
