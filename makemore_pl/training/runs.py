"""Where a run's files go: one folder under checkpoints/ for each run."""

import shutil
from pathlib import Path

from makemore_pl.errors import RequestError
from makemore_pl.model_info import RUNS_DIR

BEST = "best"
LAST = "last"


def claim_run(name: str | None, list_name: str, *, overwrite: bool = False) -> Path:
    """Make a new run's folder.

    Args:
        name: of the run; None takes the list's name, numbered if that is taken.
        list_name: name of the training list.
        overwrite: put the folder of an earlier run of that name aside, until `confirm_run`.

    Raises:
        RequestError: the name is taken or no folder's name, or the folder cannot be made.
    """
    if name is None:
        stem = list_name or "run"
        candidates = (stem if i == 1 else f"{stem}-{i}" for i in range(1, 1_000_000))
        # mkdir fails where the folder exists: two runs started at once can't get the same one.
        return next(folder for folder in map(_make, candidates) if folder is not None)
    if Path(name).name != name or name in ("", ".", ".."):
        raise RequestError(f"run: {name!r} is no name for a folder below {RUNS_DIR}/")
    if overwrite and (RUNS_DIR / name).is_dir():
        shutil.rmtree(_replaced(RUNS_DIR / name), ignore_errors=True)
        (RUNS_DIR / name).rename(_replaced(RUNS_DIR / name))
    folder = _make(name)
    if folder is None:
        raise RequestError(
            f"run: {RUNS_DIR / name} exists; choose another name, or add --overwrite true, "
            f"or go on with it by --ckpt_path {RUNS_DIR / name / LAST}.ckpt"
        )
    return folder


def confirm_run(folder: Path) -> None:
    """The new run is there: delete the one that it replaces, if any."""
    shutil.rmtree(_replaced(folder), ignore_errors=True)


def release_run(folder: Path) -> None:
    """The new run cannot begin: take back its folder, and put what it was to replace in place again."""
    shutil.rmtree(folder)
    if _replaced(folder).is_dir():
        _replaced(folder).rename(folder)
    elif not any(RUNS_DIR.iterdir()):
        RUNS_DIR.rmdir()


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def _make(name: str) -> Path | None:
    """The new folder, or None where it exists."""
    folder = RUNS_DIR / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        if not RUNS_DIR.is_dir():
            raise RequestError(f"{RUNS_DIR} is a file; a folder of that name is needed") from None
        return None
    except OSError as error:
        raise RequestError(f"{folder}: cannot be made ({error.strerror})") from error
    return folder


def resolve_checkpoint(path: str, run: str | None) -> Path:
    """The file that `--ckpt_path` stands for: `best` or `last` of a run, by default of the newest, or a path.

    Raises:
        RequestError: there is no such run.
    """
    if path not in (BEST, LAST):
        return Path(path)
    if run is not None:
        return RUNS_DIR / run / f"{path}.ckpt"
    found = sorted(RUNS_DIR.glob(f"*/{path}.ckpt"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise RequestError(f"ckpt_path: no {path}.ckpt under {RUNS_DIR}/")
    return found[-1]
