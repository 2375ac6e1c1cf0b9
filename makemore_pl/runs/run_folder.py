"""Where a run's files go: one folder under checkpoints/ for each run."""

import os
import shutil
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

from makemore_pl.errors import RequestError
from makemore_pl.runs.locks import HeldError, hold
from makemore_pl.runtime.metadata import RUNS_DIR, modified

BEST = "best"
LAST = "last"
BEGINNING = {"config.yaml", "hparams.yaml", "metrics.csv", "diagnostics.csv", "tensorboard"}
"""What a run writes before its first checkpoint."""


def claim_run(held: ExitStack, name: str | None, list_name: str, *, overwrite: bool = False) -> Path:
    """Make a new run's folder, and hold it against other processes.

    Args:
        held: lets go of the folder when it is closed.
        name: of the run; None takes the list's name, numbered if that is taken.
        list_name: name of the training list.
        overwrite: put the folder of an earlier run of that name aside, until `confirm_run`.

    Raises:
        RequestError: the name is taken or no folder's name, another process is at work in the folder, or it
            cannot be made.
    """
    try:
        RUNS_DIR.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise RequestError(f"{RUNS_DIR} is a file; a folder of that name is needed") from None
    except OSError as error:
        raise RequestError(f"{RUNS_DIR}: cannot be made ({error.strerror})") from error
    held.callback(_remove_if_empty, RUNS_DIR)
    if name is None:
        return _claim_unused(held, list_name.lstrip(".") or "run")
    # A name with a full stop in front is a lock's, or that of a run put aside.
    if Path(name).name != name or name == "" or name.startswith("."):
        raise RequestError(f"run: {name!r} is no name for a folder below {RUNS_DIR}/")
    folder = RUNS_DIR / name
    hold_run(held, folder)
    _clear_abandoned(folder)
    if overwrite and folder.is_dir():
        shutil.rmtree(_replaced(folder), ignore_errors=True)
        folder.rename(_replaced(folder))
    if not _make(folder):
        raise RequestError(
            f"run: {folder} exists; choose another name, or add --overwrite true, "
            f"or go on with it by --ckpt_path {folder / LAST}.ckpt"
        )
    return folder


def _claim_unused(held: ExitStack, stem: str) -> Path:
    """The first of `stem`, `stem-2`, `stem-3` … that neither exists nor is being made."""
    for i in count(1):
        folder = RUNS_DIR / (stem if i == 1 else f"{stem}-{i}")
        with ExitStack() as attempt, suppress(HeldError):
            hold_run(attempt, folder)
            _clear_abandoned(folder)
            if _make(folder):
                held.enter_context(attempt.pop_all())
                return folder
    raise AssertionError("there is always another number")


def hold_run(held: ExitStack, folder: Path) -> None:
    """Hold a run's folder until `held` is closed, or the process ends.

    Raises:
        HeldError: another process is at work in it.
    """
    # Beside the folder, which may be put aside; inside where a volume has been mounted as the folder, say.
    place = folder.parent if os.access(folder.parent, os.W_OK) else folder
    held.enter_context(hold(place / f".{folder.name}.lock", wait=0, what=folder))


def confirm_run(folder: Path) -> None:
    """The new run is there: delete the one that it replaces, if any."""
    shutil.rmtree(_replaced(folder), ignore_errors=True)


def release_run(folder: Path) -> None:
    """The new run cannot begin: take back its folder, and put what it was to replace in place again."""
    shutil.rmtree(folder)
    if _replaced(folder).is_dir():
        _replaced(folder).rename(folder)


def _clear_abandoned(folder: Path) -> None:
    """Take back what a run that was killed before its first checkpoint has left. The folder must be held."""
    if _is_abandoned(folder):
        shutil.rmtree(folder)
    if not folder.exists() and _replaced(folder).is_dir():
        _replaced(folder).rename(folder)


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder holds only what a run writes before its first checkpoint."""
    return folder.is_dir() and all(
        path.name in BEGINNING or (path.name.startswith(".") and path.suffix in (".part", ".lock"))
        for path in folder.iterdir()
    )


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def _make(folder: Path) -> bool:
    """Make a folder; False where it exists."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise RequestError(f"{folder}: cannot be made ({error.strerror})") from error
    return True


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def resolve_checkpoint(path: str, run: str | None) -> Path:
    """The file that `--ckpt_path` stands for: `best` or `last` of a run, by default of the newest, or a path.

    Raises:
        RequestError: there is no such run, or a newer one has no checkpoint yet.
    """
    if path not in (BEST, LAST):
        return Path(path)
    if run is not None:
        folder = RUNS_DIR / run
    else:
        found = sorted(RUNS_DIR.glob(f"[!.]*/{path}.ckpt"), key=modified)
        if not found:
            raise RequestError(f"ckpt_path: no {path}.ckpt under {RUNS_DIR}/")
        folder = found[-1].parent
        # Not to go on with an older run in place of one that was killed at its beginning.
        newer = [each for each in RUNS_DIR.glob("[!.]*/") if modified(each) > modified(found[-1])]
        begun = [each for each in newer if _is_abandoned(each)]
        if path == LAST and begun:
            raise RequestError(
                f"ckpt_path: {begun[0]} has no checkpoint yet; begin it again without --ckpt_path, "
                f"or go on with an older run by --ckpt_path {found[-1]}"
            )
    checkpoint = folder / f"{path}.ckpt"
    # Stopped between writing its first best.ckpt and its first last.ckpt, which are the same.
    return folder / f"{BEST}.ckpt" if path == LAST and not checkpoint.is_file() else checkpoint
