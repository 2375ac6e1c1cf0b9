"""A line on the terminal that says how far a long command is.

Some lines of arithmetic, and no library: the runtime half would need one for nothing else.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from makemore_pl.tables.table_files import Batch

SECONDS = 0.2
"""Between two updates."""
BAR = 24
"""Characters of the bar."""


def with_progress(batches: Iterator[Batch], output: Path | None) -> Iterator[Batch]:
    """The same batches; a bar, rows and the time left on standard error, if it is a terminal.

    Args:
        batches: what is read.
        output: the file that is written; None is standard output, which on a terminal would mix with the bar.
    """
    if not sys.stderr.isatty() or (output is None and sys.stdout.isatty()):
        yield from batches
        return
    started = shown = time.monotonic()
    n_rows = 0
    try:
        for batch in batches:
            n_rows += len(next(iter(batch.columns.values()), []))
            now = time.monotonic()
            if now - shown > SECONDS:
                shown = now
                print(
                    f"\r{_line(n_rows, batch.share, now - started)}\x1b[K",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            yield batch
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _line(n_rows: int, share: float | None, seconds: float) -> str:
    line = f"{n_rows:,} rows"
    if share:
        minutes, rest = divmod(round(seconds * (1 - share) / share), 60)
        done = round(share * BAR)
        line = f"{'━' * done}{'╌' * (BAR - done)} {line}, {share:.0%}, {minutes}:{rest:02} left"
    return line
