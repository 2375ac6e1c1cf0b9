"""Files: written whole or not at all, and read with care. Both halves of the project use it."""

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from makemore_pl.errors import MakemoreError, RequestError


def write_whole(file: Path, content: bytes) -> None:
    """Write a file and the folders it lies in. Until all of it is on disk, the earlier file stays.

    Raises:
        OSError: it cannot be written; the earlier file has stayed.
    """
    with written_whole(file) as target:
        target.write(content)


@contextmanager
def written_whole(file: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the earlier one's place when all of it is on disk.

    Makes the folders that it lies in. If the block that writes raises, the earlier file stays. A killed
    process may leave a hidden file beside it, which the next one overwrites.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        part.replace(file)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def written_output(file: Path) -> Iterator[BinaryIO]:
    """A file that the user has asked for, like `written_whole`.

    Raises:
        RequestError: it cannot be written; the earlier file has stayed.
    """
    try:
        with written_whole(file) as target:
            yield target
    except OSError as error:
        raise RequestError(f"{file}: cannot be written ({error.strerror or error})") from error


def move_into_place(work: Path, folder: Path, names: Sequence[str]) -> None:
    """Move files from `work` into `folder`: all of them, or if one cannot be moved, none.

    A file system renames one file at a time. So earlier files are copied first, and put back after a failure.

    Raises:
        OSError: one cannot be moved; the folder holds what it held before.
    """
    earlier = work / "earlier"
    earlier.mkdir()
    for name in names:
        if (folder / name).exists():
            shutil.copy2(folder / name, earlier)
    moved = []
    try:
        for name in names:
            (work / name).replace(folder / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            with suppress(OSError):  # as many as can be
                if (earlier / name).exists():
                    (earlier / name).replace(folder / name)
                else:
                    (folder / name).unlink()
        raise


def whole_lines(file: Path) -> list[str]:
    """The lines of a text file, without a last one that a killed process has cut short; no file, no lines."""
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()


def file_size(path: Path, error: type[MakemoreError]) -> int:
    """Size of a regular file in bytes. Pipes and devices are refused: they may block, or never end.

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
def reading(path: Path, error: type[MakemoreError]) -> Iterator[int]:
    """Read a regular file, of whose size it tells, with the system's errors as ours.

    Raises:
        MakemoreError: of the type `error`; see `file_size`, or the file cannot be read.
    """
    size = file_size(path, error)
    try:
        yield size
    except OSError as reason:
        raise error(f"{path}: {reason.strerror or reason}") from reason
