"""How much memory the program may take: sizes are estimated first, and refused past a limit.

The limit is three quarters of the memory that is available when it is first asked for;
`MAKEMORE_MAX_MEMORY` sets another. Shared by both halves of the project: the standard library only.
"""

import functools
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from makemore_pl.errors import MakemoreError, RequestError

VARIABLE = "MAKEMORE_MAX_MEMORY"
"""Environment variable with another limit: bytes, or a number with K, M, G or T (powers of 1024)."""
SHARE = 0.75
"""Share of the available memory that may be taken."""
UNKNOWN = 4 << 30
"""The memory of a machine that does not say how much it has."""


class MemoryLimitError(MakemoreError):
    """Something would take more memory than the limit allows."""


def require_memory(n_bytes: int, arithmetic: str) -> None:
    """Refuse what would take more than the limit.

    Args:
        n_bytes: the estimate.
        arithmetic: what takes them and how the estimate comes about, e.g. "model: 5 weights of 4 bytes".

    Raises:
        MemoryLimitError: with the arithmetic, the limit, and how to raise it.
        RequestError: `MAKEMORE_MAX_MEMORY` is no size.
    """
    limit = memory_limit()
    if n_bytes > limit:
        raise MemoryLimitError(
            f"{arithmetic} = {in_words(n_bytes)}; at most {in_words(limit)} may be taken, {_origin()}"
        )


def out_of_memory() -> MemoryLimitError:
    """What an allocation that has failed all the same is reported as."""
    return MemoryLimitError(
        f"out of memory; the program may take {in_words(memory_limit())} at a time, {_origin()}"
    )


def memory_limit() -> int:
    """Most bytes that one thing may take.

    Raises:
        RequestError: `MAKEMORE_MAX_MEMORY` is no size.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return int(SHARE * _available())
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    limit = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if limit < 1:
        raise RequestError(f"{VARIABLE}: {text[:40]!r} is no size; give bytes, or a number with K, M, G or T")
    return limit


def in_words(n_bytes: int) -> str:
    """Bytes with the unit that suits them: `1.5 GiB`."""
    size, units = float(n_bytes), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"


def _origin() -> str:
    if os.environ.get(VARIABLE, "").strip():
        return f"as {VARIABLE} says"
    return f"{SHARE:.0%} of the available memory; {VARIABLE}=16G, say, sets another limit"


def file_size(path: Path, error: type[MakemoreError]) -> int:
    """Size of a regular file in bytes. Pipes and devices are refused: they may block, or never end.

    Args:
        path: the file.
        error: what to raise.

    Raises:
        MakemoreError: of the type `error`; there is no such file, or it is not a regular one.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        raise error(f"{path}: {getattr(reason, 'strerror', None) or reason}") from reason
    if stat.S_ISDIR(status.st_mode):
        raise error(f"{path}: Is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path}: not a file but a pipe or a device")
    return status.st_size


@contextmanager
def memory_cap() -> Iterator[None]:
    """Have the system refuse this process more memory than the limit, where the system can.

    For commands that compute what others' files say, which cannot be estimated. Memory that is refused is an
    exception, not the end of the process.
    """
    if sys.platform == "win32":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    cap = _data_size() + memory_limit()
    if hard != resource.RLIM_INFINITY:
        cap = min(cap, hard)
    if soft != resource.RLIM_INFINITY:
        cap = min(cap, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (cap, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@functools.cache
def _available() -> int:
    """Bytes that this process could take: the machine's, or those of its control groups."""
    found = [_machine(), *_control_groups()]
    known = [n_bytes for n_bytes in found if n_bytes is not None]
    return max(0, min(known)) if known else UNKNOWN


def _machine() -> int | None:
    """Linux counts what could be freed; elsewhere all of the machine's memory is taken for available."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _control_groups() -> Iterator[int]:
    """What each control group around this process may take (containers, Slurm)."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        # Version 1 has a tree for each controller, version 2 one for all.
        root, file = ("/memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
        folder = Path(f"/sys/fs/cgroup{root}{group}")
        # In a container, the group's own folder may be mounted as the root.
        for place in (folder, *folder.parents):
            limit = _read(place / file).strip()
            if limit.isdigit():
                yield int(limit)


def _data_size() -> int:
    """Bytes of this process that count against RLIMIT_DATA (Linux; elsewhere unknown, so 0)."""
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return ""
