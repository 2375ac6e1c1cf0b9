"""A progress bar on stderr while contexts are compared."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from makemore_pl.proof.contexts import ContextSet


def chunks_with_progress(contexts: ContextSet) -> Iterator[NDArray[np.int64]]:
    """The chunks of `contexts`, with a bar where stderr is a terminal."""
    columns = (
        TextColumn("verifying"),
        BarColumn(),
        TextColumn("{task.completed:,} contexts"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(contexts))
        for chunk in contexts.chunks():
            yield chunk
            progress.advance(task, len(chunk))
