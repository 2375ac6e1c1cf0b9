"""The OpenAPI document, derived from the declarations of the options."""

from dataclasses import MISSING, Field
from typing import Any

from makemore_pl import __version__
from makemore_pl.options import takes_several, value_type
from makemore_pl.service.problems import MEDIA_TYPE
from makemore_pl.service.queries import FORMAT_HELP, FORMATS, MODEL, MOST, OPTIONS

WORDS = {"above": "exclusiveMinimum", "at_least": "minimum", "at_most": "maximum"}
TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
TEXT: dict[str, Any] = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
NUMBER = {"type": ["number", "null"]}


def _object(required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


NAME = _object(
    "name",
    id=TEXT | {"description": "with ids: the id that the name belongs to"},
    name=TEXT,
    log_prob={"type": "number", "description": "log-likelihood in nats; not with ids"},
    label=TEXT | {"description": "if the training names have labels; not with ids"},
)
SCORE = _object(
    "name log_prob per_character perplexity unknown",
    name=TEXT,
    log_prob=NUMBER | {"description": "log-likelihood in nats; null if a character is unknown"},
    per_character=NUMBER | {"description": "log_prob divided by the characters and the end"},
    perplexity=NUMBER,
    unknown=TEXT | {"description": "the characters that the model does not know"},
    label={"type": ["string", "null"], "description": "the likeliest, where there are several"},
    label_probability=NUMBER,
)
HEALTH = _object(
    "status model newer_export_refused verification",
    status={"const": "ok"},
    model=TEXT | {"description": "hash of the weights that are served"},
    newer_export_refused={"type": "boolean", "description": "the files there are not sound"},
    verification={"type": "object", "description": "summary of the model's proof"},
)
PROBLEM = _object(
    "status title detail",
    status={"type": "integer"},
    title=TEXT,
    detail=TEXT | {"description": "one sentence"},
)


def schema_of(f: Field[Any]) -> dict[str, Any]:
    """The JSON schema of an option's value."""
    if takes_several(f):
        return TEXTS
    schema: dict[str, Any] = {"type": TYPES[value_type(f)]}
    schema |= {WORDS[word]: limit for word, limit in f.metadata["limits"].items()}
    if f.name in MOST:
        schema["maximum"] = MOST[f.name]
    if f.default is not MISSING and f.default is not None:
        schema["default"] = f.default
    return schema


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _operation(
    summary: str, name: str, content: dict[str, Any], *refusals: int, **others: Any
) -> dict[str, Any]:
    refused = {"description": "what is wrong, in one sentence", "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
    answers = {"200": {"description": "as asked for", "content": content}}
    answers |= {str(status): refused for status in refusals}
    return {"summary": summary, "operationId": name, "responses": answers, **others}


def _rows(item: dict[str, Any]) -> dict[str, Any]:
    schemas = {"json": {"type": "array", "items": item}, "ndjson": TEXT, "text": TEXT}
    return {FORMATS[form]: {"schema": schema} for form, schema in schemas.items()}


def document() -> dict[str, Any]:
    """The document, for a JSON encoder."""
    form = _parameter("format", FORMAT_HELP, {"type": "string", "enum": list(FORMATS)})
    options = [_parameter(name, f.metadata["help"], schema_of(f)) for name, f in OPTIONS.items()]
    options.append(_parameter(MODEL, "refuse if not the model of this hash is served", TEXT))
    names = _parameter("name", "a name; may be given several times", TEXTS) | {"required": True}
    label = _parameter("label", "of the names; if left out, the likeliest is told", TEXT)
    body = {"application/json": {"schema": TEXTS}, "text/plain": {"schema": TEXT}}
    json_only = {"application/json": {"schema": {"type": "object"}}}
    get_names = _operation(
        "New names; with ids, for each of them a name that is always the same.",
        "names",
        _rows(NAME),
        *(400, 414, 500, 503),
        parameters=[*options, form],
    )
    get_scores = _operation(
        "Log-likelihoods of names in the query.",
        "score",
        _rows(SCORE),
        *(400, 414, 500, 503),
        parameters=[names, label, form],
    )
    post_scores = _operation(
        "Log-likelihoods of many names: an array of texts, or a name a line.",
        "score_many",
        _rows(SCORE),
        *(400, 408, 413, 414, 415, 500, 503),
        parameters=[label, form],
        requestBody={"required": True, "content": body},
    )
    health = _operation("Which model is served.", "health", {"application/json": {"schema": HEALTH}})
    metrics = _operation("Counters and times, for Prometheus.", "metrics", {"text/plain": {"schema": TEXT}})
    return {
        "openapi": "3.1.0",
        "info": {"title": "makemore", "version": __version__, "description": "Names and their scores."},
        "paths": {
            "/names": {"get": get_names},
            "/score": {"get": get_scores, "post": post_scores},
            "/health": {"get": health},
            "/metrics": {"get": metrics},
            "/openapi.json": {"get": _operation("This document.", "openapi", json_only)},
        },
    }
