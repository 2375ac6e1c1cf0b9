"""The logits that an exported file of the form `table` stores, found in its bytes."""

import numpy as np
from numpy.typing import NDArray

from makemore_pl.exported.metadata import TABLE


def stored_logits(content: bytes, n_contexts: int, n_ids: int) -> NDArray[np.float32] | None:
    """Find the tensor `TABLE` in the bytes of an ONNX file: float32 (contexts, V), read-only.

    ONNX Runtime hands out no tensor of a graph but its outputs. A protocol buffer holds a tensor as its
    shape, type and name, then the numbers as they are (TensorProto in onnx.proto): these are searched for.

    Returns:
        None where they are not there in this order, as in a file that another program has written again.
    """

    def number(n: int) -> bytes:  # a varint: 7 bits a byte, the lowest first
        return bytes([n & 127 | 128]) + number(n >> 7) if n > 127 else bytes([n])

    shape = b"\x08" + number(n_contexts) + b"\x08" + number(n_ids)
    float32, name = b"\x10\x01", b"\x42" + number(len(TABLE)) + TABLE.encode()
    head = shape + float32 + name + b"\x4a" + number(4 * n_contexts * n_ids)
    at = content.find(head)
    start = at + len(head)
    if at < 0 or content.find(head, start) >= 0 or len(content) < start + 4 * n_contexts * n_ids:
        return None
    return np.frombuffer(content, "<f4", n_contexts * n_ids, start).reshape(n_contexts, n_ids)
