"""The guided tour as a notebook: docs/tour.md is text and code, docs/tour_outputs.json what the code printed.

    python docs/site/tour.py      run every block again, in a quarter of an hour, and keep what it prints

The lectures' trainings are too long for every build of the site, so that their output is kept. It stands
beside the code that printed it; where that code has changed since, the site is not built. Finished trainings
are kept in build/tour.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
TOUR, OUTPUTS = ROOT / "docs" / "tour.md", ROOT / "docs" / "tour_outputs.json"
PLACE = ROOT / "build" / "tour"
STYLE = re.compile(r"\x1b\[[\d;]*m")
"""A terminal's colours, which a kernel asks programs for."""
BLOCK = re.compile(r"^```(?P<language>bash|python)\n(?P<code>.*?)^```\n", re.DOTALL | re.MULTILINE)


class Cell(NamedTuple):
    """A stretch of the tour."""

    kind: str  # "markdown" or "code"
    source: str  # of a code cell as Jupyter runs it: shell commands under the magic %%bash


def cells(text: str) -> Iterator[Cell]:
    """The tour's text and code blocks in order; nothing but blank lines between them is lost.

    Args:
        text: Markdown with fenced blocks of `python` and `bash`.
    """
    end = 0
    for block in BLOCK.finditer(text):
        yield Cell("markdown", text[end : block.start()].strip("\n"))
        code = block["code"].rstrip("\n")
        yield Cell("code", f"%%bash\n{code}" if block["language"] == "bash" else code)
        end = block.end()
    yield Cell("markdown", text[end:].strip("\n"))


def outputs_of(text: str, stored: Mapping[str, str]) -> list[str]:
    """Everything that the tour's code cells print, in order.

    Args:
        text: the tour.
        stored: the output of each code cell's source.

    Raises:
        ValueError: a block has changed since it was run.
    """
    sources = [cell.source for cell in cells(text) if cell.kind == "code"]
    for source in sources:
        if source not in stored:
            raise ValueError(f"docs/tour.md: not run yet, see docs/site/tour.py: {source.splitlines()}")
    return [stored[source] for source in sources]


def stored_outputs() -> dict[str, str]:
    """What docs/tour_outputs.json holds: of each code cell's source, what it printed."""
    return dict(json.loads(OUTPUTS.read_text(encoding="utf-8")))


def notebook(text: str, stored: Mapping[str, str]) -> dict[str, Any]:
    """The tour as a Jupyter notebook (format 4.5) that has been run.

    Args:
        text: the tour.
        stored: the output of each code cell's source.
    """
    printed = iter(outputs_of(text, stored))
    made: list[dict[str, Any]] = []
    for kind, source in cells(text):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{len(made)}", "source": source}
        cell["metadata"] = {}
        if kind == "code":
            output = {"output_type": "stream", "name": "stdout", "text": next(printed)}
            cell |= {"execution_count": None, "outputs": [output] if output["text"] else []}
        made.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": made}


def run() -> dict[str, str]:
    """Run all code cells in one kernel, in build/tour; returns what each printed on stdout.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    PLACE.mkdir(parents=True, exist_ok=True)
    for name in ("tour", "four"):
        shutil.rmtree(PLACE / "checkpoints" / name, ignore_errors=True)
    if not (PLACE / "scripts").exists():
        (PLACE / "scripts").symlink_to(ROOT / "scripts")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ |= {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    text = TOUR.read_text(encoding="utf-8")
    empty = {cell.source: "" for cell in cells(text)}
    book = nbformat.from_dict(notebook(text, empty))
    place = {"metadata": {"path": PLACE}}
    NotebookClient(book, timeout=None, kernel_name="python3", resources=place).execute()
    printed = {}
    for cell in book.cells:
        if cell.cell_type == "code":
            streams = [output for output in cell.outputs if output.get("name") == "stdout"]
            text = STYLE.sub("", "".join(output.text for output in streams))
            printed[cell.source] = "\n".join(map(str.rstrip, text.splitlines())).strip("\n") + "\n"
    return printed


if __name__ == "__main__":
    OUTPUTS.write_text(json.dumps(run(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
