"""Parsing with jsonargparse: errors in one line, with a suggestion for a mistyped option."""

from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from makemore_pl.errors import RequestError
from makemore_pl.parsing.help_texts import known_options, with_suggestion
from makemore_pl.parsing.runtime_parser import QUIET


def new_parser(command: str, description: str) -> ArgumentParser:
    """A parser for one command's options, to be used with `parse`."""
    parser = ArgumentParser(prog=f"makemore {command}", description=description, exit_on_error=False)
    parser.add_argument("--quiet", action="store_true", help=QUIET)
    return parser


def parse(parser: ArgumentParser, args: list[str], named: ArgumentParser | None = None) -> Any:
    """The options that a command line gives.

    Args:
        parser: made with `exit_on_error=False`.
        args: the command line.
        named: the parser that has the options, if not `parser` itself; its `prog` ends with the command.

    Raises:
        RequestError: they cannot be parsed.
    """
    named = named or parser
    try:
        return parser.parse_args(args)
    except ArgumentError as error:
        message = with_suggestion(error.message, known_options(named.format_help()))
        raise RequestError(f"{named.prog.split()[-1]}: {message}") from error
