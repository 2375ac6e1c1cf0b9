"""The checkpoint that a command works with, and what a resumed run may change: its length, not itself."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from makemore_pl.errors import RequestError
from makemore_pl.exported.metadata import RUNS_DIR
from makemore_pl.runs.checkpoint import Checkpoint, read_checkpoint
from makemore_pl.runs.metrics import is_rank_zero
from makemore_pl.runs.run_folder import BEST, LAST, last_checkpoint, resolve_checkpoint

NAMING = ("ckpt_path", "run", "resume", "trainer.default_root_dir")
"""Options that together name a checkpoint."""
LINKED = ("vocab_size", "block_size", "n_examples", "n_labels")
"""Arguments of the model that come from the data."""
CHANGEABLE = ("path", "characters", "labels", "eval_batch_size", "weighted_figures")
"""Arguments of the data that may change. The list itself may not: it is compared by its SHA-256."""


def named_checkpoint(args: list[str], *, for_fit: bool) -> Checkpoint | None:
    """The checkpoint that a command line names, read before its other options are parsed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in NAMING:
        parser.add_argument(f"--{option}")
    try:
        options, _ = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise RequestError(str(error)) from error
    given = {name: None if value == "null" else value for name, value in vars(options).items()}
    return find_checkpoint(given, for_fit=for_fit)


def find_checkpoint(options: dict[str, Any], *, for_fit: bool) -> Checkpoint | None:
    """The checkpoint that these options name, if they name one. If it is the newest run's, stderr says so.

    Args:
        options: those of NAMING.
        for_fit: it is resumed: of a folder, the last checkpoint; else the best.

    Raises:
        CheckpointError: it cannot be read.
        RequestError: there is no such run, or options exclude each other.
    """
    runs_dir = Path(options["trainer.default_root_dir"] or RUNS_DIR)
    path, run, resume = options["ckpt_path"], options["run"], options["resume"]
    if resume is None:
        if path is None:
            return None
        file = resolve_checkpoint(path, run, runs_dir, for_fit=for_fit)
        if path in (BEST, LAST) and run is None and is_rank_zero():
            print(f"checkpoint: {file}, of the newest run", file=sys.stderr)
        return read_checkpoint(file)
    if path is not None or run is None:
        raise RequestError("--resume auto resumes the run that --run names: give that, and no --ckpt_path")
    last = last_checkpoint(runs_dir / run)
    return read_checkpoint(last) if last.is_file() else None


def defaults_from(checkpoint: Checkpoint) -> dict[str, Any]:
    """The model's and the data's arguments as they were in training, and its vocabulary and labels."""
    defaults = {f"model.{k}": v for k, v in checkpoint.model_arguments.items() if k not in LINKED}
    defaults |= {f"data.{k}": v for k, v in checkpoint.data_arguments.items()}
    defaults["data.characters"] = checkpoint.data["characters"]
    defaults["data.labels"] = checkpoint.labels
    return defaults


def expect_same_run(source: Checkpoint, options: dict[str, Any]) -> None:
    """Refuse options, as plain values, that a run resumed from `source` would write down and ignore."""
    for section, trained, free in (
        ("model", source.model_arguments, LINKED),
        ("data", source.data_arguments, CHANGEABLE),
    ):
        for name, value in trained.items():
            given = options[section].get(name)
            if name not in free and given != value:
                raise RequestError(
                    f"{section}.{name}: the run that is resumed has {value}, and cannot take up {given}; "
                    "begin a new run, or leave the option out"
                )
    config = source.path.with_name("config.yaml")
    if not config.is_file():
        return
    begun = yaml.safe_load(config.read_text(encoding="utf-8"))
    for name in ("optimizer", "lr_scheduler"):
        if begun.get(name) != options.get(name):
            raise RequestError(
                f"{name}: the run that is resumed was begun with another one; resume with --config {config}"
            )


def expect_same_list(source: Checkpoint, list_name: str, sha256: str) -> None:
    """Refuse to resume on another list: names that were trained on could stand in its dev split."""
    if sha256 != source.data["list_sha256"]:
        raise RequestError(
            f"data.path: {list_name} is not the list that the run was begun with, "
            f"{source.data['list_name']} (SHA-256 {source.data['list_sha256'][:12]}…, not {sha256[:12]}…)"
        )
