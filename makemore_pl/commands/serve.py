"""`makemore serve`: names and scores over HTTP."""

from dataclasses import fields

from makemore_pl.parsing.runtime_parser import RuntimeParser, model_or_newest
from makemore_pl.service.server import ServerOptions, serve


def run(command: str, args: list[str]) -> None:
    """Run the command until it is told to end."""
    parser = RuntimeParser(command, "Answer requests for names and scores over HTTP; see docs/service.md.")
    parser.add_options(ServerOptions)
    options = parser.parse_args(args)
    given = {f.name: getattr(options, f.name) for f in fields(ServerOptions)}
    serve(model_or_newest(options.model), ServerOptions(**given))
