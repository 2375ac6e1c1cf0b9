"""`makemore sample`: new names on standard output."""

import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from makemore_pl.errors import RejectionWarning, RequestError, TooFewNamesError
from makemore_pl.parsing.names_io import write_rows
from makemore_pl.parsing.runtime_parser import RuntimeParser, model_or_newest
from makemore_pl.runtime.request import IdRequest, Request, Wish
from makemore_pl.runtime.sampler import Sampler


def run(command: str, args: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = RuntimeParser(command, "Make up names with an exported model.", ("text", "json", "csv"))
    parser.add_options(Request, IdRequest)
    options = parser.parse_args(args)
    return _new_names(options) if options.ids is None else _names_for_ids(options)


def _new_names(options: Namespace) -> int:
    if options.key:
        raise RequestError("sample: --key is for --ids")
    sampler = Sampler(model_or_newest(options.model), prepare=False)  # asked once
    with _told_of_rejections() as rejections:
        batches = sampler.stream(**_chosen(options, Request))
    if not rejections and not Wish(**_chosen(options, Wish)).is_plain:
        _say_probability(sampler, options)
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
    if found < options.n:
        sys.stdout.flush()
        raise TooFewNamesError(options.n, found)
    return 0


def _names_for_ids(options: Namespace) -> int:
    if options.unique or options.seed is not None:
        raise RequestError("sample: --seed and --unique are not for --ids, each of which has its own name")
    sampler = Sampler(model_or_newest(options.model), prepare=False)
    with _told_of_rejections() as rejections:
        names = sampler.for_ids(**_chosen(options, IdRequest))
    if not rejections:
        if Wish(**_chosen(options, Wish)) != Wish():
            _say_probability(sampler, options)
        same = sampler.collision_probability(**_chosen(options, Wish))
        n = len(set(options.ids))
        pairs = n * (n - 1) / 2 * same
        many = f"{pairs:,.0f}" if pairs >= 100 else f"{pairs:.3g}"
        _say(f"ids: two get the same name with probability {same:.3g}; of {n:,}, {many} pairs on average")
    rows = zip(options.ids, names, strict=True)
    if options.format == "text":
        sys.stdout.writelines(f"{text}\t{name}\n" for text, name in rows)
    else:
        write_rows(options.format, ("id", "name"), rows)
    return 0


@contextmanager
def _told_of_rejections() -> Iterator[list[warnings.WarningMessage]]:
    """Print the warnings that names are rejected, each in a line; they are in the list afterwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RejectionWarning)
        yield caught
    for warning in caught:
        _say(f"wish: {warning.message}")


def _chosen(options: Namespace, kind: type[Any]) -> dict[str, Any]:
    """What is given for the fields of an options dataclass."""
    return {f.name: getattr(options, f.name) for f in fields(kind)}


def _say_probability(sampler: Sampler, options: Namespace) -> None:
    probability = sampler.probability(**_chosen(options, Wish))
    _say(f"wish: probability {probability:.3g}" if probability else "wish: probability below 1e-307")
    if options.unique:
        n_names = sampler.n_names(**_chosen(options, Wish))
        _say(f"wish: {'more than 10^12' if n_names is None else f'{n_names:,}'} different names")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
