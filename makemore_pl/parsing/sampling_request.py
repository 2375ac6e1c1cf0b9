"""A request to a sampler, from the options of a command line or of a URL."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from makemore_pl.errors import RequestError
from makemore_pl.runtime.request import IdRequest, Request


def request_from(given: Mapping[str, Any]) -> Request | IdRequest:
    """The request that options of either kind make; others than theirs may be among those given.

    Raises:
        RequestError: options of the two kinds are mixed, or as the kinds themselves.
    """
    kind: type[Request] | type[IdRequest]
    if given.get("ids") is None:
        if given.get("key"):
            raise RequestError("key is for ids")
        kind = Request
    else:
        if given.get("unique") or given.get("seed") is not None:
            raise RequestError("seed and unique are not for ids, each of which has its own name")
        kind = IdRequest
    return kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given})
