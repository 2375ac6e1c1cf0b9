"""`makemore sample`: new names on standard output."""

import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from makemore_pl.errors import NotExactError, RejectionWarning, TooFewNamesError
from makemore_pl.parsing.names_io import write_rows
from makemore_pl.parsing.runtime_parser import RuntimeParser, model_or_newest
from makemore_pl.parsing.sampling_request import request_from
from makemore_pl.runtime.request import IdRequest, Request, Wish
from makemore_pl.runtime.sampler import Sampler


def run(command: str, args: list[str]) -> None:
    """Run the command."""
    parser = RuntimeParser(command, "Make up names with an exported model.", ("text", "json", "csv"))
    parser.add_options(Request, IdRequest)
    options = parser.parse_args(args)
    request = request_from(vars(options))
    if isinstance(request, IdRequest):
        _names_for_ids(request, options)
    else:
        _new_names(request, options)


def _new_names(request: Request, options: Namespace) -> None:
    sampler = Sampler(model_or_newest(options.model), prepare=False)  # asked once
    with _told_of_rejections() as rejections:
        batches = sampler.stream(**vars(request))
    if not rejections and not request.is_plain:
        _say_probability(sampler, request.wish())
        if request.unique:
            _say_how_many(sampler, request.wish())
    found = 0

    columns = ("name", "log_prob", "label") if sampler.info.labels else ("name", "log_prob")

    def rows() -> Iterator[Sequence[Any]]:
        nonlocal found
        for batch in batches:
            found += len(batch.names)
            yield from zip(*batch[: len(columns)], strict=True)

    if options.format == "text":
        sys.stdout.writelines(f"{name}\n" for name, *_ in rows())
    else:
        write_rows(options.format, columns, rows())
    if found < request.n:
        sys.stdout.flush()
        raise TooFewNamesError(request.n, found)


def _names_for_ids(request: IdRequest, options: Namespace) -> None:
    sampler = Sampler(model_or_newest(options.model), prepare=False)
    with _told_of_rejections() as rejections:
        names = sampler.for_ids(**vars(request))
    if not rejections:
        wish = request.wish()
        if wish != Wish():
            _say_probability(sampler, wish)
        _say(f"ids: {_pairs(sampler, request)}")
    rows = zip(request.ids, names, strict=True)
    if options.format == "text":
        sys.stdout.writelines(f"{text}\t{name}\n" for text, name in rows)
    else:
        write_rows(options.format, ("id", "name"), rows)


def _pairs(sampler: Sampler, request: IdRequest) -> str:
    """The number of ids that get the same name, in words."""
    try:
        same = sampler.collision_probability(**vars(request.wish()))
    except NotExactError as error:
        return f"how often two get the same name is not computed: {error}"
    n = len(set(request.ids))
    pairs = n * (n - 1) / 2 * same
    many = f"{pairs:,.0f}" if pairs >= 100 else f"{pairs:.3g}"
    return f"two get the same name with probability {same:.3g}; of {n:,}, {many} pairs on average"


@contextmanager
def _told_of_rejections() -> Iterator[list[warnings.WarningMessage]]:
    """Print the warnings that names are rejected, each in a line; they are in the list afterwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RejectionWarning)
        yield caught
    for warning in caught:
        _say(f"wish: {warning.message}")


def _say_probability(sampler: Sampler, wish: Wish) -> None:
    probability = sampler.probability(**vars(wish))
    _say(f"wish: probability {probability:.3g}" if probability else "wish: probability below 1e-307")


def _say_how_many(sampler: Sampler, wish: Wish) -> None:
    n_names = sampler.n_names(**vars(wish))
    _say(f"wish: {'more than 10^12' if n_names is None else f'{n_names:,}'} different names")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
