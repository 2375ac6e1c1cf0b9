"""Writing an ONNX file with its metadata, and checking it as it lies on disk."""

from pathlib import Path

import onnx

from makemore_pl.errors import VerificationError
from makemore_pl.exported.metadata import ModelInfo


def save_checked(model: onnx.ModelProto, info: ModelInfo, file: Path) -> None:
    """Write `model` with `info` as its metadata, read it back, and run ONNX's checker on it.

    Raises:
        VerificationError: the file does not hold what was written, or the checker refuses it.
    """
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, info.to_metadata())
    file.write_bytes(model.SerializeToString())
    if onnx.load_from_string(file.read_bytes()) != model:
        raise VerificationError(f"{file.name}: read back, it is not what was written")
    try:
        onnx.checker.check_model(str(file), full_check=True)  # with shape inference
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).splitlines()[0]
        raise VerificationError(f"{file.name}: refused by ONNX's checker ({reason})") from error
