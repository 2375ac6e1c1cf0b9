"""The memory limit: three quarters of what is available, or what `MAKEMORE_MAX_MEMORY` says.

Sizes that can be estimated are refused before memory is taken (`require_memory`). What files of other people
compute cannot be estimated: the system is told to refuse it (`memory_cap`).
"""

import ctypes
import functools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from makemore_pl.errors import MemoryLimitError, RequestError

VARIABLE = "MAKEMORE_MAX_MEMORY"
"""Environment variable with another limit: bytes, or a number with K, M, G or T (powers of 1024)."""
ARENAS = "MALLOC_ARENA_MAX"
"""glibc's own environment variable with the number of arenas."""
M_ARENA_MAX = -8
"""The same as a parameter of mallopt(3)."""


def require_memory(n_bytes: int, arithmetic: str) -> None:
    """Raise MemoryLimitError for an estimate above the limit; `arithmetic` is the estimate in words."""
    if n_bytes > memory_limit():
        raise out_of_memory(f"{arithmetic} = {in_words(n_bytes)}")


def out_of_memory(cause: str = "out of memory") -> MemoryLimitError:
    """The error for an allocation that has failed, or would."""
    limit = in_words(memory_limit())
    return MemoryLimitError(f"{cause}; at most {limit} may be taken; {VARIABLE}=16G, say, sets another limit")


def memory_limit() -> int:
    """The limit in bytes. Raises RequestError if `MAKEMORE_MAX_MEMORY` is no size."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return _available() * 3 // 4
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    limit = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if limit < 1:
        raise RequestError(f"{VARIABLE}: {text[:40]!r} is no size; give bytes, or a number with K, M, G or T")
    return limit


def in_words(n_bytes: int) -> str:
    """Bytes in the unit that suits them, e.g. `1.5 GiB`."""
    if n_bytes < 1024:
        return f"{n_bytes} bytes"
    if n_bytes >= 1 << 100:
        return "more than 2^100 bytes"
    power = min((n_bytes.bit_length() - 1) // 10, 5)
    return f"{n_bytes / 1024**power:,.1f} {' KMGTP'[power]}iB"


@contextmanager
def memory_cap() -> Iterator[None]:
    """Have the system refuse more memory than the limit: as an exception, not the process's end (Linux)."""
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    taken = int(_find("/proc/self/status", r"VmData:\s+(\d+) kB") or 0) << 10
    caps = [cap for cap in (taken + memory_limit(), soft, hard) if cap != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(caps), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def share_freed_memory() -> None:
    """Have what one thread has freed be used again by all (Linux, glibc); call it before there are threads.

    Else each thread takes memory from an arena of its own, where it stays when it has been freed: a process
    with many threads ends up with many times what is in use.
    """
    if sys.platform == "linux" and ARENAS not in os.environ:
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


@functools.cache
def _available() -> int:
    """Bytes that this process could take: the machine's, or its container's or Slurm job's."""
    machine = int(_find("/proc/meminfo", r"MemAvailable:\s+(\d+) kB") or 0) << 10  # with what could be freed
    if not machine and hasattr(os, "sysconf"):  # macOS: all memory there is
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # A group's limit holds for those within it. In a container, its own folder may be mounted as the root.
    group = Path("/sys/fs/cgroup" + _find("/proc/self/cgroup", r"^0::(.*)"))
    limits = [_find(place / "memory.max", r"(\d+)") for place in (group, *group.parents)]
    return min([machine or 4 << 30, *(int(limit) for limit in limits if limit)])


def _find(file: Path | str, pattern: str) -> str:
    """A value in one of the kernel's files; empty where there is none."""
    with suppress(OSError, UnicodeError):
        if match := re.search(pattern, Path(file).read_text(encoding="utf-8"), re.MULTILINE):
            return match[1]
    return ""
