"""`makemore sample`: new names on standard output."""

import sys
from collections.abc import Iterator
from dataclasses import fields

from makemore_pl.errors import TooFewNamesError
from makemore_pl.parsing.names_io import write_rows
from makemore_pl.parsing.runtime_parser import RuntimeParser
from makemore_pl.runtime.request import Request
from makemore_pl.runtime.sampler import Sampler

FEW_NAMES = 10_000
"""Up to so many names, preparing a sampler takes longer than it saves."""


def run(command: str, args: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = RuntimeParser(command, "Make up names with an exported model.", ("text", "json", "csv"))
    parser.add_options(Request)
    options = parser.parse_args(args)
    sampler = Sampler(options.model, prepare=options.n > FEW_NAMES)
    batches = sampler.stream(**{f.name: getattr(options, f.name) for f in fields(Request)})
    found = 0

    def rows() -> Iterator[tuple[str, float]]:
        nonlocal found
        for batch in batches:
            found += len(batch.names)
            yield from zip(batch.names, batch.log_probs, strict=True)

    if options.format == "text":
        sys.stdout.writelines(f"{name}\n" for name, _ in rows())
    else:
        write_rows(options.format, ("name", "log_prob"), rows())
    if found < options.n:
        sys.stdout.flush()
        raise TooFewNamesError(options.n, found)
    return 0
