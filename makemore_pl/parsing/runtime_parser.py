"""The command line of the runtime half: argparse, which starts faster than what `fit` uses."""

import argparse
import sys
from collections.abc import Collection, Sequence
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from makemore_pl.errors import RequestError
from makemore_pl.exported.metadata import newest_export
from makemore_pl.options import REQUIRED, read_value, shown_name, value_type
from makemore_pl.parsing.names_io import read_names

QUIET = "print results and errors alone"
"""Help of `--quiet`, which the program itself takes, for every command."""


class RuntimeParser(argparse.ArgumentParser):
    """A parser with the argument MODEL; for a command that prints, also --format, by default the first."""

    def __init__(self, command: str, description: str, formats: Sequence[str] = ()) -> None:
        super().__init__(prog=f"makemore {command}", description=description, allow_abbrev=False)
        model_help = "ONNX file or an export's folder; the newest under checkpoints/ if left out"
        self.add_argument("model", nargs="?", type=Path, metavar="MODEL", help=model_help)
        if formats:
            format_help = f"form of the output (default: {formats[0]})"
            self.add_argument("--format", choices=formats, default=formats[0], help=format_help)
        self.add_argument("--quiet", action="store_true", help=QUIET)

    def add_options(self, *options: type[Any]) -> None:
        """Add an option for each field of options dataclasses, see options.py."""
        by_name = {f.name: f for kind in options for f in fields(kind)}
        for f in sorted(by_name.values(), key=lambda f: bool(f.kw_only)):  # those without keyword come first
            flag = f"-{f.name}" if len(f.name) == 1 else f"--{shown_name(f.name)}"
            self.add_argument(flag, dest=f.name, **_value(f))

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print, as an error of the program's own: one line, exit code 2."""
        from makemore_pl.parsing.help_texts import known_options, with_suggestion  # for errors alone

        meant = with_suggestion(f"{message:.300}", known_options(self.format_help()))
        raise RequestError(f"{self.prog.partition(' ')[2]}: {meant}")


def model_or_newest(model: Path | None) -> Path:
    """The model that a user has given; or the newest export, and a line on stderr which that is.

    Raises:
        ModelFileError: there is no export.
    """
    if model is None:
        model = newest_export()
        print(f"model: {model}, the newest", file=sys.stderr)
    return model


def _value(f: Field[Any]) -> dict[str, Any]:
    """The arguments of `add_argument` for one option."""
    help = f.metadata["help"]
    default = None if f.default is REQUIRED else f.default
    kind = value_type(f)
    if kind is bool:
        return {"action": "store_true", "help": help}
    metavar = f.metadata["metavar"] or f.name.upper()
    if kind == Sequence[str]:
        help = f"{help}; may be given several times"
        return {"action": "append", "default": [], "metavar": metavar, "help": help}
    if kind == Collection[str]:
        help = f"{help}; a file with one per line"
        return {"type": read_names, "default": default, "metavar": "FILE", "help": help}
    shown = help if default in (None, "") else f"{help} (default: {default})"
    return {"type": partial(read_value, f), "default": default, "metavar": metavar, "help": shown}
