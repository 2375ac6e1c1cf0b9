"""`write_page`: an export, a page's own files and perhaps the runtime, in one folder for any static host.

A page is `index.html` and what it names: style, scripts, an icon, `sampler.onnx`, and its metadata as
`model.json`, for onnxruntime-web cannot read them. What a list holds is in the last two alone, and the page's
scripts show it as text: nothing of it is ever HTML.
"""

import hashlib
import re
import secrets
import shutil
from datetime import datetime, timezone
from pathlib import Path
from string import Template

from makemore_pl.errors import ModelFileError, RequestError
from makemore_pl.exported.metadata import INFO_FILE, MODEL_FILE, SAMPLER_FILE, find_model, modified
from makemore_pl.exported.session import read_onnx
from makemore_pl.files import move_into_place, write_whole
from makemore_pl.page.web_runtime import (
    INTEGRITY,
    SCRIPT,
    WASM,
    WEB_VERSION,
    WebRuntime,
    integrity,
    web_runtime,
)
from makemore_pl.runtime.engines import GraphSampler, open_engine

INDEX = "index.html"
STATIC = Path(__file__).parent / "static"
VERSION_DIGITS = 12
"""Hexadecimal digits of the SHA-256 of all of a page."""


def write_page(
    model: Path | str | None,
    folder: Path | str,
    runtime: Path | str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a page's folder: all of it, or nothing.

    Args:
        model: an exported `sampler.onnx` or an export's folder; None takes the newest under checkpoints/.
        folder: of the page.
        runtime: folder of the npm package onnxruntime-web, whose files are copied; with None, visitors load
            them from a CDN.
        overwrite: replace an earlier page in `folder`. Files of other names stay.

    Returns:
        The folder.

    Raises:
        ModelFileError: there is no such file, or it is none of ours that makes names.
        RequestError: the folder is not empty, or cannot be written to; or the runtime is of another version.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"page: {folder} is a file; a folder is needed")
    try:
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise RequestError(f"page: {folder} is not empty; choose another folder, or add --overwrite")
        _write_all(page_files(find_model(model, SAMPLER_FILE, MODEL_FILE), web_runtime(runtime)), folder)
    except OSError as error:
        raise RequestError(f"page: {folder} cannot be written ({error.strerror or error})") from error
    return folder


def page_files(sampler: Path, runtime: WebRuntime) -> dict[str, bytes]:
    """Every file of a page by its name, `index.html` last.

    Raises:
        ModelFileError: `sampler` cannot be read, or does not make names.
    """
    content = read_onnx(sampler)
    engine = open_engine(sampler, prepare=False, content=content)
    if not isinstance(engine, GraphSampler):
        raise ModelFileError(
            f"{sampler}: gives no names but logits; {SAMPLER_FILE} of the same export is needed"
        )
    own = {file.name: file.read_bytes() for file in sorted(STATIC.iterdir()) if file.is_file()}
    model = {INFO_FILE: engine.info.to_json().encode(), SAMPLER_FILE: content}
    parts = [part for name, file in sorted((own | model).items()) for part in (name.encode(), file)]
    # Part of every address: a browser never combines files of two pages, however long it keeps them.
    version = hashlib.sha256(b"\0".join(parts)).hexdigest()[:VERSION_DIGITS]
    scripts = {
        name: re.sub(rb'(from "\./[\w-]+\.js)(?=")', rb"\1?v=" + version.encode(), file)
        for name, file in own.items()
        if name.endswith(".js")
    }
    html = Template(own.pop(INDEX).decode()).substitute(
        version=version,
        policy=_policy(runtime),
        runtime=runtime.base + SCRIPT,
        runtime_integrity=INTEGRITY[SCRIPT],
        wasm=runtime.base + WASM,
        wasm_integrity=INTEGRITY[WASM],
        runtime_version=WEB_VERSION,
        model_integrity=integrity(model[INFO_FILE]),
        sampler_integrity=integrity(content),
        written=datetime.fromtimestamp(modified(sampler), timezone.utc).date().isoformat(),
    )
    return own | scripts | model | runtime.files | {INDEX: html.encode()}


def _policy(runtime: WebRuntime) -> str:
    """The content security policy: what the page may load, and from where."""
    script, wasm = (f" {runtime.base}{name}" if runtime.base else "" for name in (SCRIPT, WASM))
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' 'wasm-unsafe-eval'{script}",
            f"connect-src 'self'{wasm}",
            "style-src 'self'",
            "img-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",  # no text becomes HTML, even by mistake
            "trusted-types 'none'",
        ]
    )


def _write_all(files: dict[str, bytes], folder: Path) -> None:
    """Write the files into a new folder, which then becomes `folder`, or whose files are moved there."""
    existed = folder.is_dir()
    if not existed:
        folder.parent.mkdir(parents=True, exist_ok=True)
    work = (folder if existed else folder.parent) / f".page-{secrets.token_hex(4)}"
    work.mkdir()
    try:
        for name, content in files.items():
            write_whole(work / name, content)
        if existed:
            move_into_place(work, folder, list(files))
        else:
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
