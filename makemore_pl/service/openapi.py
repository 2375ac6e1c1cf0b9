"""The OpenAPI document, derived from the declarations of the options."""

from dataclasses import MISSING, Field
from typing import Any

from makemore_pl import __version__
from makemore_pl.options import takes_several, value_type
from makemore_pl.service.problems import MEDIA_TYPE
from makemore_pl.service.queries import FORMAT_HELP, FORMATS, MODEL, MOST, OPTIONS

WORDS = {"above": "exclusiveMinimum", "at_least": "minimum", "at_most": "maximum"}
TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
TEXTS = {"type": "array", "items": {"type": "string"}}
NUMBER = {"type": ["number", "null"]}
NAME = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "with ids: the id that the name belongs to"},
        "name": {"type": "string"},
        "log_prob": {"type": "number", "description": "log-likelihood in nats; not with ids"},
        "label": {"type": "string", "description": "if the training names have labels; not with ids"},
    },
    "required": ["name"],
}
SCORE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "log_prob": NUMBER | {"description": "log-likelihood in nats; null if a character is unknown"},
        "per_character": NUMBER | {"description": "log_prob divided by the characters and the end"},
        "perplexity": NUMBER,
        "unknown": {"type": "string", "description": "the characters that the model does not know"},
        "label": {"type": ["string", "null"], "description": "the likeliest, where there are several"},
        "label_probability": NUMBER,
    },
    "required": ["name", "log_prob", "per_character", "perplexity", "unknown"],
}
HEALTH = {
    "type": "object",
    "properties": {
        "status": {"const": "ok"},
        "model": {"type": "string", "description": "hash of the weights that are served"},
        "newer_export_refused": {"type": "boolean", "description": "the files there are not sound"},
        "list": {"type": "string", "description": "name of the training list"},
        "verification": {"type": "object", "description": "summary of the model's proof"},
        "version": {"type": "string"},
    },
    "required": ["status", "model", "newer_export_refused"],
}
PROBLEM = {
    "type": "object",
    "properties": {
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "detail": {"type": "string", "description": "one sentence"},
    },
    "required": ["status", "title", "detail"],
}


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


def _answers(content: dict[str, Any], *problems: int) -> dict[str, Any]:
    refused = {"description": "what is wrong, in one sentence", "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
    return {"200": {"description": "as asked for", "content": content}} | {
        str(status): refused for status in problems
    }


def _rows(item: dict[str, Any]) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    return {FORMATS["json"]: {"schema": {"type": "array", "items": item}}} | {
        FORMATS[form]: text for form in ("ndjson", "text")
    }


def document() -> dict[str, Any]:
    """The document, for a JSON encoder."""
    form = _parameter("format", FORMAT_HELP, {"type": "string", "enum": list(FORMATS)})
    options = [_parameter(name, f.metadata["help"], schema_of(f)) for name, f in OPTIONS.items()]
    options.append(_parameter(MODEL, "refuse if not the model of this hash is served", {"type": "string"}))
    names = _parameter("name", "a name; may be given several times", TEXTS) | {"required": True}
    label = _parameter("label", "of the names; if left out, the likeliest is told", {"type": "string"})
    bodies = {"application/json": {"schema": TEXTS}, "text/plain": {"schema": {"type": "string"}}}
    json_only = {"application/json": {"schema": {"type": "object"}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "makemore",
            "version": __version__,
            "description": "Made-up names and their scores.",
        },
        "paths": {
            "/names": {
                "get": {
                    "summary": "New names; with ids, for each of them a name that is always the same.",
                    "operationId": "names",
                    "parameters": [*options, form],
                    "responses": _answers(_rows(NAME), 400, 414, 500, 503),
                }
            },
            "/score": {
                "get": {
                    "summary": "Log-likelihoods of names in the query.",
                    "operationId": "score",
                    "parameters": [names, label, form],
                    "responses": _answers(_rows(SCORE), 400, 414, 500, 503),
                },
                "post": {
                    "summary": "Log-likelihoods of many names: an array of texts, or a name a line.",
                    "operationId": "score_many",
                    "parameters": [label, form],
                    "requestBody": {"required": True, "content": bodies},
                    "responses": _answers(_rows(SCORE), 400, 413, 414, 415, 500, 503),
                },
            },
            "/health": {
                "get": {
                    "summary": "Which model is served.",
                    "operationId": "health",
                    "responses": _answers({"application/json": {"schema": HEALTH}}),
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Counters and times, for Prometheus.",
                    "operationId": "metrics",
                    "responses": _answers({"text/plain": {"schema": {"type": "string"}}}),
                }
            },
            "/openapi.json": {
                "get": {
                    "summary": "This document.",
                    "operationId": "openapi",
                    "responses": _answers(json_only),
                }
            },
        },
    }
