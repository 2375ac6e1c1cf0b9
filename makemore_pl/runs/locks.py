"""Locks between processes, so that no two write one run or one export at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from makemore_pl.errors import RequestError


class HeldError(RequestError):
    """The files belong to another process at the moment."""


@contextmanager
def hold(file: Path, *, wait: float, what: Path) -> Iterator[None]:
    """Hold a lock on a file. The system releases it when the process ends, however it ends.

    Args:
        file: the lock file; created if missing, and removed at the end.
        wait: seconds to wait for another process that holds the lock; -1: without limit.
        what: the run or folder that the lock protects, for the message.

    Raises:
        HeldError: another process still holds the lock.
        RequestError: the lock file cannot be created.
    """
    lock = FileLock(file, is_singleton=False, thread_local=False)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise HeldError(f"{what}: another process is at work there") from None
    except OSError as error:
        raise RequestError(f"{file}: cannot be created ({error.strerror})") from error
    try:
        yield
    finally:
        # Before the release: a process that waits then sees that the file is gone, and opens a new one.
        with suppress(OSError):
            file.unlink()
        lock.release()
