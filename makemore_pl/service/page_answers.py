"""The page of `makemore page` as answers: its files, kept in memory."""

import hashlib
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from makemore_pl.exported.metadata import SAMPLER_FILE
from makemore_pl.page.page_folder import INDEX, page_files
from makemore_pl.page.web_runtime import WebRuntime

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".wasm": "application/wasm",
}


class PageAnswers:
    """A page's files, each with a tag by which a browser asks whether it has changed.

    Args:
        model: the served file; a page needs `sampler.onnx`, and for another file there is none.
        runtime: what the page computes with.
    """

    def __init__(self, model: Path, runtime: WebRuntime) -> None:
        files = page_files(model, runtime) if model.name == SAMPLER_FILE else {}
        self._files = {name: (content, _tag(content)) for name, content in files.items()}

    def answer(self, http: Request) -> Response:
        """The file that the path names; `/` is the page itself.

        Raises:
            HTTPException: 404, there is none.
        """
        name = http.path_params.get("file", INDEX)
        if name not in self._files:
            raise HTTPException(404)
        content, tag = self._files[name]
        headers = {"etag": tag, "cache-control": "no-cache"}
        if name == INDEX:  # the page has its own policy inside, where this one cannot stand
            headers["content-security-policy"] = "frame-ancestors 'none'"
        if tag in http.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        media_type = MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
        return Response(content, headers=headers, media_type=media_type)


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
