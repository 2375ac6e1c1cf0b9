"""Writing the network as an ONNX file.

Opset 18 and IR version 8: read by ONNX Runtime 1.14 and newer, its web build and Triton.
"""

import logging
import warnings
from pathlib import Path

import onnx
import torch

from makemore_pl.errors import VerificationError
from makemore_pl.model.network import BatchNormMLP

OPSET = 18
IR_VERSION = 8


def to_onnx(model: BatchNormMLP, *, optimize: bool = True) -> onnx.ModelProto:
    """Export by PyTorch's own exporter: input `context` int64 (batch, T), output `logits` float32 (batch, V).

    Args:
        model: in eval mode; a model in training mode would be exported with batch statistics.
        optimize: let the exporter simplify the graph, which would fold a BatchNorm by itself.
    """
    assert not model.training
    # A batch of 1 would be taken for a constant.
    example = torch.zeros((2, model.block_size), dtype=torch.int64)
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter, none about the model
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                input_names=["context"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                external_data=False,
                optimize=optimize,
                verbose=False,
            )
    finally:
        exporter_log.setLevel(level)
    assert program is not None  # dynamo=True always returns a program
    exported = program.model_proto
    exported.ir_version = IR_VERSION
    for node in exported.graph.node:
        # The exporter's notes on where a node came from hold paths of this machine.
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    exported.producer_name = "makemore_pl"
    return exported


def save_checked(model: onnx.ModelProto, path: Path) -> None:
    """Write the file and run ONNX's checker, with shape inference, on it as saved.

    Raises:
        VerificationError: the checker refuses it.
    """
    path.write_bytes(model.SerializeToString())
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(
            f"{path.name}: refused by ONNX's checker ({str(error).splitlines()[0]})"
        ) from error


def set_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    """Replace the file's metadata_props."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
