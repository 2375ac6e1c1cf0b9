"""A temporary folder for an export's files; exports into one folder take turns."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from makemore_pl.errors import RequestError
from makemore_pl.runs.locks import hold

PREFIX = ".export-"


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder inside `folder`, on the same disk, so that its files can be renamed into place.

    It is removed in the end, and so are the folders that were made for it, if they are empty.

    Raises:
        RequestError: nothing can be written there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold(folder / ".export.lock", wait=-1, what=folder):
            for left_by_a_killed_export in folder.glob(f"{PREFIX}*"):
                shutil.rmtree(left_by_a_killed_export, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder) as work:
                yield Path(work)
    except OSError as error:
        raise RequestError(f"{folder}: cannot be written to ({error.strerror})") from error
    finally:
        for path in made:
            with suppress(OSError):  # not made; or not empty: the files are there, or another export's
                path.rmdir()


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
