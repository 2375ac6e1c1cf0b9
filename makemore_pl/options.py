"""Options that are declared once: name, type, default, limits and help text.

A dataclass whose fields are made with `option` is the signature in Python (`takes`), and the command line is
derived from the same fields (parsing/runtime_parser.py).
"""

import functools
import inspect
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import MISSING, Field, field, fields
from types import UnionType
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args

from makemore_pl.errors import RequestError

Itself = TypeVar("Itself")
Options = TypeVar("Options")
Result = TypeVar("Result")
P = ParamSpec("P")

REQUIRED: Any = MISSING
"""As a default: the option must be given."""
READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (float, "a number"),
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
}
"""Of each type: what makes a value of a text, and what the text should be. Other types are texts."""
FULFILS = {"above": operator.gt, "at_least": operator.ge, "at_most": operator.le}


def option(default: Any, help: str, *, metavar: str | None = None, **limits: float) -> Any:
    """A field of an options dataclass.

    Args:
        default: the value if left out; REQUIRED if it may not be.
        help: a line for the command line's help.
        metavar: how the help names the value, if not like the option.
        limits: above, at_least, at_most. None as a value has none.
    """
    return field(default=default, metadata={"help": help, "metavar": metavar, "limits": limits})


def value_type(f: Field[Any]) -> Any:
    """Type of an option's value: int for `int | None`."""
    return get_args(f.type)[0] if isinstance(f.type, UnionType) else f.type


def takes_several(f: Field[Any]) -> bool:
    """True for an option that takes any number of texts."""
    return value_type(f) in (Sequence[str], Collection[str])


def read_value(f: Field[Any], text: str) -> Any:
    """The value that a text gives an option; for one that takes several, one of them.

    Raises:
        RequestError: it is no such value. Whether it is within limits is checked by the options' own class.
    """
    kind = value_type(f)
    if kind not in READERS:
        return text
    read, expected = READERS[kind]
    try:
        return read(text)
    except (KeyError, ValueError) as error:
        raise RequestError(f"{shown_name(f.name)} must be {expected}, not {text!r:.60}") from error


def shown_name(name: str) -> str:
    """An option's name as users write it."""
    return name.replace("_", "-")


def check_limits(options: Any) -> None:
    """Check every field of an options dataclass.

    Raises:
        RequestError: a value is out of its range.
    """
    all_limits = _limits(options.__class__)
    for name, word, limit in all_limits:
        value = getattr(options, name)
        try:
            fulfilled = value is None or FULFILS[word](value, limit)
        except TypeError:
            raise RequestError(f"{shown_name(name)} must be a number, not {value!r:.60}") from None
        if not fulfilled:
            expected = [f"{w.replace('_', ' ')} {x:,}" for n, w, x in all_limits if n == name]
            raise RequestError(f"{shown_name(name)} must be {' and '.join(expected)}, not {value}")


@functools.cache
def _limits(kind: Any) -> list[tuple[str, str, float]]:
    return [(f.name, word, limit) for f in fields(kind) for word, limit in f.metadata["limits"].items()]


def takes(
    options: Callable[P, Options],
) -> Callable[[Callable[[Itself, Options], Result]], Callable[Concatenate[Itself, P], Result]]:
    """Have a method that takes an options object called with the options themselves.

    `sampler.sample(5, seed=1)` then calls `sample(sampler, Request(5, seed=1))`. Type checkers, editors and
    `help` see the dataclass's parameters, and a mistyped one is an error that names what may be meant.
    """

    def decorate(method: Callable[[Itself, Options], Result]) -> Callable[Concatenate[Itself, P], Result]:
        def call(self: Itself, /, *args: P.args, **kwargs: P.kwargs) -> Result:
            try:
                chosen = options(*args, **kwargs)
            except TypeError:
                _expect_known(method.__name__, list(parameters), kwargs)
                raise
            return method(self, chosen)

        itself, _ = inspect.signature(method).parameters.values()
        parameters = inspect.signature(options).parameters
        functools.update_wrapper(call, method)
        call.__signature__ = inspect.Signature([itself, *parameters.values()])  # type: ignore[attr-defined]
        return call

    return decorate


def _expect_known(method: str, known: list[str], given: Iterable[str]) -> None:
    """Raise TypeError for a keyword that a method does not know, with the one that it is most like."""
    from difflib import get_close_matches  # for errors alone

    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise TypeError(f"{method}() has no option {name!r}; {meant}") from None
