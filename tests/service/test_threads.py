"""Threads of the service: few, that stay, and with one place for the memory that they free."""

import asyncio
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from anyio import CancelScope

from makemore_pl.service.drawing import Threads

ARENAS = """\
import ctypes, re, sys, threading
from pathlib import Path
from makemore_pl.memory import share_freed_memory

libc = ctypes.CDLL(None)
if not hasattr(libc, "malloc_info"):
    sys.exit("no glibc")
if sys.argv[2] == "shared":
    share_freed_memory()
together = threading.Barrier(5)
threads = [threading.Thread(target=lambda: (bytes(100_000), together.wait())) for _ in range(4)]
for thread in threads:
    thread.start()
libc.fopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
libc.fclose.argtypes = (ctypes.c_void_p,)
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
together.wait()
print(len(re.findall("<heap ", Path(sys.argv[1]).read_text())))
"""
"""Prints how many arenas glibc has made for four threads and the main one."""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's arenas")
def test_freed_memory_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)

    def n_arenas(which: str) -> int:
        command = [sys.executable, "-c", ARENAS, str(tmp_path / "arenas"), which]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if "no glibc" in done.stderr:
            pytest.skip("another C library")
        return int(done.stdout)

    assert n_arenas("shared") == 1
    assert n_arenas("as they come") > 1
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")  # the user's own choice
    assert n_arenas("shared") > 1


def test_a_thread_is_taken_until_it_has_ended_its_work() -> None:
    """Whoever waited may be gone: others let in before would wait where nobody counts them."""
    may_end, begun = threading.Event(), []

    async def use(threads: Threads) -> None:
        with CancelScope() as scope:
            await threads.run(may_end.wait, scope.cancel)

    async def main() -> None:
        threads = Threads()
        n = threads.n
        first = [asyncio.create_task(use(threads)) for _ in range(n)]
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(threads.run(int, partial(begun.append, i))) for i in range(n)]
        await asyncio.sleep(0.05)
        assert begun == []
        may_end.set()
        await asyncio.gather(*first, *others)
        assert len(begun) == n

    asyncio.run(main())
