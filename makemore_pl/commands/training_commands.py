"""The training half's commands: LightningCLI's, `export`, `verify` and `report`."""

import logging
import warnings
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException

from makemore_pl.commands.config_files import find_config
from makemore_pl.commands.lightning_cli import MakemoreCLI
from makemore_pl.commands.option_checks import is_out_of_memory
from makemore_pl.errors import RequestError
from makemore_pl.export.export import FormChoice, export_checkpoint, verify_file
from makemore_pl.memory import out_of_memory
from makemore_pl.report.page import write_report


def run(command: str, args: list[str]) -> int:
    """Run one of the training commands.

    Args:
        command: fit, validate, test, predict, lr-find, export, verify or report.
        args: its options.

    Returns:
        The exit code.

    Raises:
        MakemoreError: anything the user can mend.
    """
    _quieten()
    try:
        if command == "export":
            _export(args)
        elif command == "verify":
            _verify(args)
        elif command == "report":
            _report(args)
        else:
            method = command.replace("-", "_")  # of a Trainer
            MakemoreCLI(method, _with_config_files(args))
    except ArgumentError as error:
        raise RequestError(f"{command}: {error.message}") from error
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
    return 0


def _export(args: list[str]) -> None:
    parser = ArgumentParser(
        prog="makemore export",
        description="Fold a checkpoint, prove that nothing changed, and write the ONNX files.",
        exit_on_error=False,
    )
    parser.add_argument("checkpoint", type=str, metavar="CKPT", help="a checkpoint of 'makemore fit'")
    parser.add_argument(
        "-o", "--output", type=str, metavar="DIR", help="folder of the files; the checkpoint's if left out"
    )
    form_help = "how the network is stored; auto: as trained in model.onnx, the fastest form in sampler.onnx"
    parser.add_argument("--form", type=FormChoice, default="auto", help=form_help)
    options: Any = parser.parse_args(args)
    export = export_checkpoint(options.checkpoint, options.output, options.form)
    print(f"{export.folder}: {export.report.describe()}")


def _verify(args: list[str]) -> None:
    parser = ArgumentParser(
        prog="makemore verify",
        description="Prove that an ONNX file computes what a checkpoint computes; exit code 1 if not.",
        exit_on_error=False,
    )
    parser.add_argument("model", type=str, metavar="MODEL.onnx", help="an exported file, of either kind")
    parser.add_argument("checkpoint", type=str, metavar="CKPT", help="the checkpoint that it should equal")
    options: Any = parser.parse_args(args)
    print(f"{options.model}: {verify_file(options.model, options.checkpoint).describe()}")


def _with_config_files(args: list[str]) -> list[str]:
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


def _report(args: list[str]) -> None:
    parser = ArgumentParser(
        prog="makemore report",
        description="Write one HTML page that shows what a checkpoint has learned, and how.",
        exit_on_error=False,
    )
    parser.add_argument("checkpoint", type=str, metavar="CKPT", help="a checkpoint of 'makemore fit'")
    parser.add_argument(
        "-o",
        "--output",
        type=str,
        metavar="FILE",
        help="the page; report.html beside the checkpoint if left out",
    )
    parser.add_argument(
        "--list", type=str, metavar="FILE", help="the training list, where it lies elsewhere than in training"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the names that it makes up")
    options: Any = parser.parse_args(args)
    print(write_report(options.checkpoint, options.output, names=options.list, seed=options.seed))


NEWS = (
    # Between Lightning and PyTorch, nothing a user could mend.
    r"`isinstance\(treespec, LeafSpec\)`",
    # Wherever Slurm is installed. Tasks of a job that the options leave out are an error of their own.
    "The `srun` command is available",
    # Steps are counted over epochs: the loss of a small list is logged all the same.
    "The number of training batches .* is smaller than the logging interval",
    # A test needs no callback that training had.
    "Be aware that when using `ckpt_path`, callbacks",
    # An optimiser on the command line is meant to replace the module's own.
    ".*configure_optimizers` will be overridden by",
    # The run's folder is its own: the configuration, or the run that is gone on with, has been put there.
    "(Checkpoint|Experiment logs) directory .* exists and is not empty",
)
"""Warnings that no user of this program needs."""


def _quieten() -> None:
    """Leave Lightning's warnings, drop its news: devices found, seeds set, products to try."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in NEWS:
        warnings.filterwarnings("ignore", message=message)
    warnings.formatwarning = _in_one_line


def _in_one_line(message: Warning | str, *_: object, **__: object) -> str:
    """What a user can do something about, without the line of source that Python adds."""
    return f"makemore: warning: {' '.join(str(message).split())}\n"
