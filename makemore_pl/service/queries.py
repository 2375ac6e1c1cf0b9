"""What a URL asks for: its query, read by the declarations that the command line is made from."""

from collections.abc import Iterable, Iterator
from dataclasses import Field, fields
from typing import Any
from urllib.parse import parse_qsl

from makemore_pl.errors import RequestError
from makemore_pl.options import read_value, shown_name, takes_several
from makemore_pl.parsing.help_texts import with_suggestion
from makemore_pl.parsing.sampling_request import request_from
from makemore_pl.runtime.request import IdRequest, Request

MOST = {"n": 1_000_000, "min_length": 1_000, "max_length": 1_000}
"""The service's own limits, below those that the options have everywhere."""
MAX_QUERY_BYTES = 16 << 10
"""Longest query: bounds the number of ids and of texts, and the automata made from them."""
MODEL = "model"
"""Option of a query: the model's hash, so that a link that repeats names never gives those of another."""
FORMATS = {"json": "application/json", "ndjson": "application/x-ndjson", "text": "text/plain"}
"""Forms of an answer, the default first, with their media types."""
FORMAT_HELP = "form of the answer; left out, the first of these that the header Accept names, or json"


def sampling_options() -> dict[str, Field[Any]]:
    """Every option of a request for names, by name; `n` first, as on the command line."""
    by_name = {f.name: f for kind in (Request, IdRequest) for f in fields(kind)}
    return dict(sorted(by_name.items(), key=lambda named: bool(named[1].kw_only)))


OPTIONS = sampling_options()


def read_pairs(query: bytes) -> list[tuple[str, str]]:
    """Names and values of a query, in their order.

    Raises:
        RequestError: it is not UTF-8, or not percent-encoded.
    """
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise RequestError(f"the query is not percent-encoded UTF-8 ({error.reason})") from error


def split_format(pairs: Iterable[tuple[str, str]], accept: str) -> tuple[list[tuple[str, str]], str]:
    """The pairs without `format`, and the form of the answer.

    Raises:
        RequestError: there is no such form.
    """
    pairs = list(pairs)
    others = [pair for pair in pairs if pair[0] != "format"]
    chosen = [value for name, value in pairs if name == "format"]
    if not chosen:
        accepted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
        asked = [form for part in accepted for form, kind in FORMATS.items() if kind == part]
        return others, asked[0] if asked else "json"
    form = chosen[-1]
    if form not in FORMATS:
        raise RequestError(f"format must be one of {', '.join(FORMATS)}, not {form!r:.60}")
    return others, form


def read_request(pairs: Iterable[tuple[str, str]]) -> Request | IdRequest:
    """What names are asked for.

    Raises:
        RequestError: no such option, a value that is none or out of its range, or options that exclude each
            other.
    """
    given = dict(_values(pairs))
    request = request_from(given)
    for name, most in MOST.items():
        value = getattr(request, name, None)
        if value is not None and value > most:
            raise RequestError(f"{shown_name(name)} must be at most {most:,} here, not {value:,}")
    return request


def read_names_and_label(
    pairs: Iterable[tuple[str, str]], *, takes_names: bool
) -> tuple[list[str], str | None]:
    """What is to be scored, and of which label.

    Args:
        pairs: the query.
        takes_names: False where names come in a body.

    Raises:
        RequestError: there are other options, several labels, or no names.
    """
    names, labels = [], []
    for name, value in pairs:
        if name == "name" and takes_names:
            names.append(value)
        elif name == "label":
            labels.append(value)
        else:
            raise RequestError(f"there is no option {name:.60} here")
    if takes_names and not names:
        raise RequestError("no name is given: /score?name=emma&name=olivia, or POST an array of them")
    if len(labels) > 1:
        raise RequestError(f"label may be given once, not {len(labels):,} times")
    return names, labels[0] if labels else None


def _values(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    texts: dict[str, list[str]] = {}
    for name, value in pairs:
        texts.setdefault(name.replace("-", "_"), []).append(value)
    for name, values in texts.items():
        f = OPTIONS.get(name)
        if f is None:
            raise RequestError(with_suggestion(f"there is no option {name:.60}", [*OPTIONS, MODEL, "format"]))
        if takes_several(f):
            yield name, values
        elif len(values) > 1:
            raise RequestError(f"{shown_name(name)} may be given once, not {len(values):,} times")
        else:
            yield name, read_value(f, values[0])
