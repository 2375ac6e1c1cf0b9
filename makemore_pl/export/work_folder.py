"""A temporary folder for an export's files; exports into one folder take turns."""

import shutil
import tempfile
from collections.abc import Iterator
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
