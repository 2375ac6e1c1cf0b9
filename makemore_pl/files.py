"""Files that are there as they were, or as they are to be: whatever stops the process that writes them."""

import os
from contextlib import suppress
from pathlib import Path

from makemore_pl.errors import RequestError


def write_whole(file: Path, content: bytes) -> None:
    """Write a file anew, with the folders it lies in. Until all of it is on disk, the earlier one stays.

    What a killed process leaves is a hidden file beside it, which the next one writes over.

    Raises:
        OSError: it cannot be written; the earlier one has stayed.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        part.replace(file)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_output(file: Path, content: bytes) -> None:
    """`write_whole` for a file that a command is asked for.

    Raises:
        RequestError: it cannot be written; an earlier one has stayed.
    """
    try:
        write_whole(file, content)
    except OSError as error:
        raise RequestError(f"{file}: cannot be written ({error.strerror})") from error


def whole_lines(file: Path) -> list[str]:
    """The lines of a text file, but for one that a killed process has cut short; no file, no lines."""
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()
