"""The memory limit: three quarters of what is available, or what `MAKEMORE_MAX_MEMORY` says.

Sizes that can be estimated are refused before memory is taken (`require_memory`). What files of other people
compute cannot be estimated: the system is told to refuse it (`memory_cap`).
"""

import functools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from makemore_pl.errors import MemoryLimitError, RequestError

VARIABLE = "MAKEMORE_MAX_MEMORY"
"""Environment variable with another limit: bytes, or a number with K, M, G or T (powers of 1024)."""
ADVICE = f"{VARIABLE}=16G, say, sets another limit"


def require_memory(n_bytes: int, arithmetic: str) -> None:
    """Refuse an estimate that is above the limit.

    Args:
        n_bytes: the estimate.
        arithmetic: the estimate in words, e.g. "model: 5 weights of 4 bytes".

    Raises:
        MemoryLimitError: with the arithmetic, the limit, and how to set another.
        RequestError: `MAKEMORE_MAX_MEMORY` is no size.
    """
    limit = memory_limit()
    if n_bytes > limit:
        raise MemoryLimitError(
            f"{arithmetic} = {in_words(n_bytes)}; at most {in_words(limit)} may be taken; {ADVICE}"
        )


def out_of_memory() -> MemoryLimitError:
    """The error for an allocation that has failed."""
    return MemoryLimitError(
        f"out of memory; the program may take {in_words(memory_limit())} at a time; {ADVICE}"
    )


def memory_limit() -> int:
    """The limit in bytes.

    Raises:
        RequestError: `MAKEMORE_MAX_MEMORY` is no size.
    """
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
    power = min((n_bytes.bit_length() - 1) // 10, 5)
    return f"{n_bytes / 1024**power:,.1f} {' KMGTP'[power]}iB"


@contextmanager
def memory_cap() -> Iterator[None]:
    """Have the system refuse this process more memory than the limit, where the system can (Linux).

    Refused memory is then an exception, and not the end of the process.
    """
    if sys.platform == "win32":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    taken = _kilobytes("/proc/self/status", "VmData:") or 0
    caps = [taken + memory_limit(), *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(caps), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@functools.cache
def _available() -> int:
    """Bytes that this process could take: the machine's, or those of its control groups."""
    machine = _kilobytes("/proc/meminfo", "MemAvailable:")  # counts what could be freed
    if machine is None and hasattr(os, "sysconf"):  # macOS: all memory there is
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine or 4 << 30, *_control_groups()])


def _control_groups() -> Iterator[int]:
    """Limits of the control groups around this process (containers, Slurm)."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        # Version 2 has one tree for all controllers, version 1 a tree for each.
        trees = {"": ("", "memory.max"), "memory": ("/memory", "memory.limit_in_bytes")}
        if controllers in trees:
            tree, file = trees[controllers]
            folder = Path(f"/sys/fs/cgroup{tree}{group}")
            # In a container, the group's own folder may be mounted as the root.
            limits = [_read(place / file).strip() for place in (folder, *folder.parents)]
            yield from (int(limit) for limit in limits if limit.isdigit())


def _kilobytes(file: str, key: str) -> int | None:
    """A size from one of the kernel's tables, in bytes; None where there is no such table."""
    for line in _read(file).splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    return None


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return ""
