"""The server: a socket, one or several workers, and their end."""

import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from makemore_pl.errors import MissingPackageError, RequestError
from makemore_pl.exported.metadata import MODEL_FILE, SAMPLER_FILE, find_model
from makemore_pl.options import check_limits, option

GRACE_SECONDS = 15
"""Answers that have begun may end until then, once the server is told to end."""
MAX_HEAD_BYTES = 64 << 10
"""Of a request line with its headers."""
MAX_CONNECTIONS = 1_000
"""Of one worker."""
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: the folder through which several workers share what they count."""
BACKLOG = 2_048
"""Connections that the system accepts for a busy server."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where to listen, and with how many processes.

    Raises:
        RequestError: a value out of its range.
    """

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 for all of the machine's")
    port: int = option(8000, "port to listen on; 0 for any that is free", at_least=0, at_most=65_535)
    workers: int = option(1, "processes that answer", at_least=1, at_most=256)
    runtime: str | None = option(
        None,
        "what scripts/web_runtime.sh has fetched, onnxruntime-web, for the page; if left out, visitors "
        "load it from a CDN",
        metavar="FOLDER",
    )

    def __post_init__(self) -> None:
        check_limits(self)


def serve(model: Path, options: ServerOptions) -> None:
    """Answer requests until SIGINT or SIGTERM; what has begun by then ends within GRACE_SECONDS.

    Args:
        model: an ONNX file or an export's folder.
        options: where, and with how many processes.

    Raises:
        ModelFileError: there is no such model, or it is not sound.
        RequestError: the address cannot be listened on.
        MissingPackageError: the extra `serve` is not installed.
    """
    path = find_model(model, SAMPLER_FILE, MODEL_FILE)
    several = options.workers > 1
    with tempfile.TemporaryDirectory(prefix="makemore-") as shared, listening(options) as listener:
        if several:
            os.environ.setdefault(SHARED, shared)
        # Not before: prometheus_client reads the variable when it is imported.
        try:
            import uvicorn
            from uvicorn.supervisors import Multiprocess

            from makemore_pl.service.app import create_app
        except ModuleNotFoundError as error:
            raise MissingPackageError("'makemore serve'", error.name, "serve") from error

        # What is wrong with the model shows here, before any worker starts.
        app = create_app(path, options.runtime)
        config = uvicorn.Config(
            partial(create_app, path, options.runtime) if several else app,
            factory=several,
            workers=options.workers,
            http="h11",  # httptools, which uvicorn would prefer, has no limit for a head
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            ws="none",
            limit_concurrency=MAX_CONNECTIONS,
            backlog=BACKLOG,
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            headers=[("x-content-type-options", "nosniff")],
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {path} on http://{shown}:{port} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        if several:
            Multiprocess(config, sockets=[listener]).run()
        else:
            with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when all is done
                uvicorn.Server(config).run(sockets=[listener])
        # All answers have been given. A thread that still computes may be left by another Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def listening(options: ServerOptions) -> socket.socket:
    """A socket that listens.

    Raises:
        RequestError: the address is not one of this machine, or in use, or not allowed.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"cannot listen on {options.host:.100} port {options.port}: {reason}") from error
