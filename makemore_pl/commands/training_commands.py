"""The training half's commands: which function runs each, and how its warnings and errors are shown."""

import logging
import sys
import warnings
from collections.abc import Callable

from lightning.fabric.utilities.exceptions import MisconfigurationException

from makemore_pl.commands.evaluate import EvaluateCLI
from makemore_pl.commands.export_and_verify import export, verify
from makemore_pl.commands.fit import FitCLI
from makemore_pl.commands.learning_rate import LearningRateCLI
from makemore_pl.commands.write_report import report
from makemore_pl.errors import RequestError
from makemore_pl.memory import out_of_memory
from makemore_pl.parsing.config_files import find_config
from makemore_pl.parsing.training_errors import is_out_of_memory

COMMANDS: dict[str, Callable[[str, list[str]], object]] = {
    "fit": FitCLI,
    "validate": EvaluateCLI,
    "test": EvaluateCLI,
    "predict": EvaluateCLI,
    "lr-find": LearningRateCLI,
    "export": export,
    "verify": verify,
    "report": report,
}
NEWS = (
    # Between Lightning and PyTorch, nothing a user could fix.
    r"`isinstance\(treespec, LeafSpec\)`",
    # Wherever Slurm is installed. Tasks of a job that the options leave out are an error of their own.
    "The `srun` command is available",
    # Steps are counted over epochs: the loss of a small list is logged all the same.
    "The number of training batches .* is smaller than the logging interval",
    # A test needs no callback that training had.
    "Be aware that when using `ckpt_path`, callbacks",
    # An optimiser on the command line is meant to replace the module's own.
    ".*configure_optimizers` will be overridden by",
    # The run's folder is its own: the configuration, or the run that is resumed, has been put there.
    "(Checkpoint|Experiment logs) directory .* exists and is not empty",
)
"""Warnings that no user of this program needs."""


def run(command: str, args: list[str]) -> None:
    """Run one of `COMMANDS`."""
    quieten()
    if "" not in sys.path:
        sys.path.insert(0, "")  # a callback or network in the current folder, as with `python -m`
    try:
        COMMANDS[command](command, with_config_files(natural(command, args)))
    except MisconfigurationException as error:
        raise RequestError(f"{command}: {error}") from error
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's end of a Ctrl-C, without a word
            raise end.__context__ from None
        raise
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise out_of_memory() from error
        raise


def natural(command: str, args: list[str]) -> list[str]:
    """The command line with its first argument that is neither an option nor one's value as what it means."""
    option = {"fit": "--data.path", "lr-find": "--data.path"}.get(command, "--ckpt_path")
    if command in ("export", "verify", "report"):
        return args
    for i, (before, arg) in enumerate(zip(["", *args], args, strict=False)):
        takes_value = before.startswith("-") and "=" not in before
        if not takes_value and not arg.startswith("-"):
            return [*args[:i], option, *args[i:]]
    return args


def with_config_files(args: list[str]) -> list[str]:
    """The command line with `--config deep` as the path of a file that has been looked at."""
    found = list(args)
    for i, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        if option not in ("-c", "--config"):
            continue
        if equals:
            found[i] = f"{option}={find_config(value)}"
        elif i + 1 < len(args):
            found[i + 1] = find_config(args[i + 1])
    return found


def quieten() -> None:
    """Leave Lightning's warnings, drop its news: devices found, seeds set, products to try."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers.profiler").setLevel(logging.INFO)  # what it was asked for
    for message in NEWS:
        warnings.filterwarnings("ignore", message=message)
    warnings.formatwarning = in_one_line


def in_one_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning without the line of source that Python adds."""
    return f"makemore: warning: {' '.join(str(message).split())}\n"
