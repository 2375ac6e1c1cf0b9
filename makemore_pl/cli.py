"""The program `makemore`: finds the command, imports only what it needs, and turns errors into one line."""

import atexit
import gc
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from difflib import get_close_matches
from importlib import import_module
from types import FrameType, ModuleType
from typing import NoReturn

from makemore_pl import __version__
from makemore_pl.errors import MakemoreError, MissingPackageError
from makemore_pl.memory import memory_cap, out_of_memory

COMMANDS = {
    "fit": ("training_commands", "train on a list of names, then test, fold, verify and export"),
    "validate": ("training_commands", "figures of a checkpoint on the dev split"),
    "test": ("training_commands", "figures of a checkpoint on the test split"),
    "predict": ("training_commands", "next-character probabilities on the test split, as CSV"),
    "lr-find": ("training_commands", "sweep learning rates, and suggest one"),
    "export": ("training_commands", "fold a checkpoint, prove it, and write ONNX files"),
    "verify": ("training_commands", "prove again that an ONNX file equals a checkpoint"),
    "report": ("training_commands", "one HTML page that shows what a checkpoint has learned"),
    "sample": ("sample", "make up names with an exported model"),
    "score": ("score", "log-likelihood and perplexity of given names"),
    "info": ("info", "what an exported file holds"),
    "page": ("write_page", "a web page that makes names in its visitor's browser"),
    "serve": ("serve", "answer requests for names and scores over HTTP"),
}
"""Of each command: its module under makemore_pl/commands, imported when it is needed, in which
`run(command, args)` runs it; and a line for the help."""
CAPPED = ("export", "verify", "sample", "score", "info", "page", "serve")
"""Commands that compute what files of other people say, which cannot be estimated: their memory is capped."""
HELP = """\
usage: makemore COMMAND [options]

Train a character-level model on a list of names, prove its ONNX export, make up new names.

commands:
{commands}

options:
  -h, --help  this text, as 'makemore help'; 'makemore COMMAND --help' for a command's options
  --quiet     with any command: results and errors alone
  --version   the program's version"""


def main(args: Sequence[str] | None = None) -> None:
    """Run a command, by default that of the process, and exit: 1 for a failed proof, 2 for a user's error."""
    leave = _Leave()
    if args is None:  # the process is this program's own
        atexit.register(leave)  # first of all, so that it is called last
    args = sys.argv[1:] if args is None else list(args)
    # A process started without streams has none: what is printed is then lost, as the caller wants it.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of any alphabet, whatever the locale says; and paths that are not valid text.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = _code_of(args)
        sys.stdout.flush()
    except MakemoreError as error:
        code = _fail(str(error), error.exit_code)
    except MemoryError:
        code = _fail(str(out_of_memory()), 2)
    except BrokenPipeError:
        # The reader has gone, as in `makemore sample | head`: there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt as interrupt:
        code = _fail("interrupted", 128 + (*interrupt.args, signal.SIGINT)[0])
    except OSError as error:
        code = _fail(f"{error.filename or 'system'}: {error.strerror or error}", 2)
    leave.code = code
    end_process(code)


class _Leave:
    """Ends the process after all that was registered to be done at its end.

    Python would then take every module apart, object by object: a quarter of a second after a training.
    """

    def __init__(self) -> None:
        self.code = 1  # that of a traceback
        self.process = os.getpid()

    def __call__(self) -> None:
        if os.getpid() != self.process:
            return  # a fork of it
        logging.shutdown()
        _exit_now(self.code)


def end_process(code: int) -> NoReturn:
    """Exit; where ranks have talked to each other, without Python's own shutdown.

    Threads of Gloo, with which ranks talk, outlive the process group where DDP was used. One that frees its
    last message while Python shuts down asks for an interpreter that is gone, and aborts the process.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        _exit_now(code)
    sys.exit(code)


def _exit_now(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the reader has gone
            stream.flush()
    os._exit(code)


def _code_of(args: list[str]) -> int:
    """Run a command; the code with which it exits by itself, as a library does after --help, or 0."""
    quiet = "--quiet" in args
    try:
        with _sigterm_interrupts(), redirect_stderr(io.StringIO()) if quiet else nullcontext():
            _run([arg for arg in args if arg != "--quiet"])
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        return _fail(str(end.code), 1)
    return 0


def _run(args: list[str]) -> None:
    command, *options = args or ["help"]
    if command == "help" and options:
        command, options = options[0], [*options[1:], "--help"]
    if command in ("-h", "--help", "help"):
        lines = [f"  {name:<9} {summary}" for name, (_, summary) in COMMANDS.items()]
        print(HELP.format(commands="\n".join(lines)))
    elif command == "--version":
        print(f"makemore {__version__}")
    elif command in COMMANDS:
        _run_command(command, options)
    else:
        close = get_close_matches(command, COMMANDS, n=1)
        meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(COMMANDS)}"
        raise MakemoreError(f"no command {command!r}; {meant}")


def _run_command(command: str, options: list[str]) -> None:
    # PyTorch's threads wait for each other's share of every operation. Awake, as OpenMP has them by default,
    # they slow down a machine on which others work, too, several times (docs/benchmarks.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Without a home that can be written, Matplotlib makes do with a temporary folder, and need not say so.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    module, _ = COMMANDS[command]
    try:
        run = imported(f"makemore_pl.commands.{module}").run
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("makemore_pl"):
            raise
        raise MissingPackageError(f"'makemore {command}'", error.name, "train") from error
    with memory_cap() if command in CAPPED else nullcontext():
        run(command, options)


def imported(name: str) -> ModuleType:
    """Import a module for the first time without looking for garbage.

    What imports make stays. To look through it again and again, and once more at exit, takes a process that
    imports Lightning 1.5 of 3.3 seconds.
    """
    if name in sys.modules:
        return sys.modules[name]
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C: what is at work shuts down in order, and leaves nothing half-written."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _fail(message: str, code: int) -> int:
    """Print one line, whatever line breaks the message has."""
    print(f"makemore: error: {' '.join(message.split())}", file=sys.stderr)
    return code
