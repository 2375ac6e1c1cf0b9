"""What a file is made of, read from its bytes before ONNX Runtime gets them.

ONNX Runtime would run any operator, and does not tell which there are; the package `onnx`, which could, is no
part of the runtime half. An ONNX file is a protocol buffer: nested messages of numbered fields (onnx.proto;
"Encoding" in the documentation of protocol buffers), of which a few are soon found.
"""

from collections.abc import Iterator
from pathlib import Path

from makemore_pl.errors import ModelFileError

MODEL_OPERATORS = frozenset(["Add", "Gather", "Gemm", "Mul", "ReduceSum", "Reshape", "Tanh"])
"""All that `model.onnx` is written with, in any form."""
SAMPLER_OPERATORS = MODEL_OPERATORS.union(
    ["And", "ArgMax", "Cast", "Clip", "Concat", "CumSum", "Div", "Equal", "Exp", "Expand", "GatherElements"],
    ["Greater", "GreaterOrEqual", "Identity", "If", "Less", "LessOrEqual", "Log", "Loop", "MatMul", "Max"],
    ["Min", "Mod", "Not", "Pad", "Range", "ReduceMax", "ReduceMin", "Relu", "ScatterElements", "Shape"],
    ["Size", "Slice", "Split", "Squeeze", "Sub", "TopK", "Transpose", "Unsqueeze", "Where"],
)
"""All that `sampler.onnx` is written with."""
MOST_FIELDS = 1_000_000
"""Fields read at most: a file of this project has some thousands."""

# Messages of onnx.proto by the numbers of their fields: those that are looked into, ...
_INSIDE = {
    "model": {7: "main graph"},
    "main graph": {1: "node", 5: "tensor", 11: "input"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
# ... those that no file of this project has, ...
_FOREIGN = {
    ("model", 25): "functions of its own",
    ("main graph", 15): "sparse weights",
    ("graph", 15): "sparse weights",
    ("attribute", 22): "sparse weights",
    ("attribute", 23): "sparse weights",
    ("tensor", 13): "data in another file",
}
# ... and the texts that are looked for.
_OPERATOR, _DOMAIN, _INPUT_NAME = ("node", 4), ("node", 7), ("input", 1)


def expect_known_operators(content: bytes, path: Path) -> None:
    """Check that a file uses nothing but the operators that this project writes, and has all its data inside.

    Args:
        content: the file's bytes.
        path: the file, for messages.

    Raises:
        ModelFileError: another operator, data in another file, or bytes that are no ONNX file.
    """
    try:
        operators, inputs, foreign = _survey(memoryview(content))
    except _MalformedError as error:
        raise ModelFileError(f"{path}: not a readable ONNX model ({error})") from error
    foreign |= {f"operator {name[:40]!r}" for name in operators - SAMPLER_OPERATORS}
    if "uniforms" not in inputs:
        foreign |= {f"operator {name[:40]!r}" for name in operators - MODEL_OPERATORS}
    if foreign:
        raise ModelFileError(f"{path}: not exported by makemore (it has {', '.join(sorted(foreign)[:3])})")


class _MalformedError(ValueError):
    """Bytes that are no protocol buffer."""


def _survey(content: memoryview) -> tuple[set[str], set[str], set[str]]:
    """Operators of all graphs, names of the main graph's inputs, and what else is foreign to this project."""
    operators, inputs, foreign = set(), set(), set()
    n_fields = 0
    pending = [("model", content)]  # not recursion: a hostile file may be nested as deeply as it likes
    while pending:
        kind, message = pending.pop()
        inside = _INSIDE.get(kind, {})
        domain = ""
        names = []
        for number, value in _fields(message):
            n_fields += 1
            if n_fields > MOST_FIELDS:
                raise _MalformedError(f"more than {MOST_FIELDS:,} fields")
            if number in inside:
                pending.append((inside[number], value))
            elif (kind, number) in _FOREIGN:
                foreign.add(_FOREIGN[kind, number])
            elif (kind, number) == _OPERATOR:
                names.append(_text(value))
            elif (kind, number) == _DOMAIN:
                domain = _text(value)
            elif (kind, number) == _INPUT_NAME:
                inputs.add(_text(value))
        operators |= {name if domain in ("", "ai.onnx") else f"{domain}.{name}" for name in names}
    return operators, inputs, foreign


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field; the content of a field that is no message, text or array is empty."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        length = 0
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(message, at)
            case 5:
                at += 4
            case _:
                raise _MalformedError("an unknown kind of field")
        if at + length > len(message):
            raise _MalformedError("a field ends after the file")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer in groups of 7 bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError("a broken integer")


def _text(content: memoryview) -> str:
    return bytes(content[:1_000]).decode("utf-8", errors="replace")
