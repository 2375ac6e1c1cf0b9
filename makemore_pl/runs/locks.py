"""Locks between processes: two of them must not write one run, or one export, at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from makemore_pl.errors import RequestError


class HeldError(RequestError):
    """Another process is at work on the same files."""


@contextmanager
def hold(file: Path, *, wait: float, what: Path) -> Iterator[None]:
    """Hold the lock that `file` stands for. The system lets go of it when the process ends, however it ends.

    Args:
        file: made where there is none, and removed in the end.
        wait: seconds to wait for another process that holds it; -1: for ever.
        what: what is held by it, for the message.

    Raises:
        HeldError: another process still holds it.
        RequestError: the file cannot be made.
    """
    lock = FileLock(file, is_singleton=False, thread_local=False)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise HeldError(f"{what}: another process is at work there") from None
    except OSError as error:
        raise RequestError(f"{file}: cannot be made ({error.strerror})") from error
    try:
        yield
    finally:
        # While it is held: who waits for it then sees that the file has gone, and begins anew with another.
        with suppress(OSError):
            file.unlink()
        lock.release()
