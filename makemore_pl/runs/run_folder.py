"""The folder of a run's files, under checkpoints/."""

import os
import shutil
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

from makemore_pl.errors import RequestError
from makemore_pl.exported.metadata import RUNS_DIR, modified
from makemore_pl.runs.locks import HeldError, hold

BEST = "best"
LAST = "last"
BEGINNING = {"config.yaml", "hparams.yaml", "metrics.csv", "diagnostics.csv", "tensorboard"}
"""Written by a run before its first checkpoint."""


def claim_run(
    held: ExitStack,
    name: str | None,
    list_name: str,
    *,
    overwrite: bool = False,
    runs_dir: Path = RUNS_DIR,
) -> Path:
    """Make a new run's folder, and hold it against other processes.

    Args:
        held: lets go of the folder when it is closed.
        name: of the run; None takes the list's name, numbered if that is taken.
        list_name: name of the training list.
        overwrite: keep an earlier run of that name under another, until `confirm_run`.
        runs_dir: the folder of all runs.

    Raises:
        RequestError: the name is taken or no folder's name, another process is at work in the folder, or it
            cannot be made.
    """
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise RequestError(f"{runs_dir} is a file; a folder of that name is needed") from None
    except OSError as error:
        raise RequestError(f"{runs_dir}: cannot be made ({error.strerror})") from error
    held.callback(_remove_if_empty, runs_dir)
    if name is None:
        return _claim_unused(held, runs_dir / (list_name.lstrip(".") or "run"))
    # A name with a full stop in front is a lock's, or that of a run that is being replaced.
    if Path(name).name != name or name == "" or name.startswith("."):
        raise RequestError(f"run: {name!r} is no name for a folder below {runs_dir}/")
    folder = runs_dir / name
    hold_run(held, folder)
    _clear_abandoned(folder)
    if overwrite and folder.is_dir():
        shutil.rmtree(_replaced(folder), ignore_errors=True)
        folder.rename(_replaced(folder))
    if not _make(folder):
        raise RequestError(
            f"run: {folder} exists; choose another name, or add --overwrite true, "
            f"or resume it by --ckpt_path {folder / LAST}.ckpt"
        )
    return folder


def _claim_unused(held: ExitStack, first: Path) -> Path:
    """The first of `stem`, `stem-2`, `stem-3` … that neither exists nor is being made."""
    for i in count(1):
        folder = first if i == 1 else first.with_name(f"{first.name}-{i}")
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
    # Beside the folder, which may be renamed; or inside it, if it is a mounted volume.
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
    """Tell whether a folder holds only what a run writes before its first checkpoint."""
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


def resolve_checkpoint(
    path: str, run: str | None, runs_dir: Path = RUNS_DIR, *, for_fit: bool = False
) -> Path:
    """The file that `--ckpt_path` stands for: `best` or `last` of a run, by default of the newest, or a path.

    A run's folder stands for its last checkpoint where a fit is resumed.

    Raises:
        RequestError: there is no such run, or a newer one has no checkpoint yet.
    """
    if path not in (BEST, LAST):
        return last_checkpoint(Path(path)) if Path(path).is_dir() and for_fit else Path(path)
    folder = _newest(path, runs_dir) if run is None else runs_dir / run
    return last_checkpoint(folder) if path == LAST else folder / f"{BEST}.ckpt"


def last_checkpoint(folder: Path) -> Path:
    """A run's `last.ckpt`; the equal `best.ckpt` where it was killed between writing its first two."""
    last, best = folder / f"{LAST}.ckpt", folder / f"{BEST}.ckpt"
    return best if best.is_file() and not last.is_file() else last


def _newest(name: str, runs_dir: Path) -> Path:
    """The folder of the newest run that has this checkpoint."""
    found = sorted(runs_dir.glob(f"[!.]*/{name}.ckpt"), key=modified)
    if not found:
        raise RequestError(f"ckpt_path: no {name}.ckpt under {runs_dir}/")
    # Not an older run in place of one that was killed at its beginning.
    newer = [folder for folder in runs_dir.glob("[!.]*/") if modified(folder) > modified(found[-1])]
    begun = [folder for folder in newer if _is_abandoned(folder)]
    if name == LAST and begun:
        raise RequestError(
            f"ckpt_path: {begun[0]} has no checkpoint yet; begin it again without --ckpt_path, "
            f"or resume an older run by --ckpt_path {found[-1]}"
        )
    return found[-1].parent
