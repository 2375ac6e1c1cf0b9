"""Tools of the trade on exported files: what docs/without_this_package.md says of each."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxslim
import pytest
from numpy.typing import NDArray
from onnx import version_converter
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
from onnxruntime.transformers.float16 import convert_float_to_float16

from makemore_pl.export.export import export_checkpoint

pytestmark = pytest.mark.slow

Tool = Callable[[Path, Path], object]
CONTEXTS = np.random.default_rng(0).integers(0, 14, (500, 3))
REQUEST = {
    "uniforms": np.random.default_rng(0).random((300, 15), dtype=np.float32),
    "prefix": np.array([5], dtype=np.int64),
    "temperature": np.array(0.9, dtype=np.float32),
    "top_k": np.array(12, dtype=np.int64),
    "top_p": np.array(0.9, dtype=np.float32),
    "min_length": np.array(3, dtype=np.int64),
}


def to_float16(source: Path, target: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def to_ort(source: Path, target: Path) -> None:
    convert_onnx_models_to_ort(
        source, output_dir=target.parent / "ort", optimization_styles=[OptimizationStyle.Fixed]
    )
    (target.parent / "ort" / f"{source.stem}.ort").rename(target)


def to_opset(opset: int) -> Tool:
    return lambda source, target: onnx.save(
        version_converter.convert_version(onnx.load(source), opset), target
    )


def newest_opset() -> int:
    """The newest that ONNX and ONNX Runtime both know."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "one", [x], [y])
    for opset in range(onnx.defs.onnx_opset_version(), 21, -1):
        opsets = [onnx.helper.make_opsetid("", opset)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except Fail:
            continue
        return opset
    raise AssertionError("no opset newer than 21")


def simplify(source: Path, target: Path) -> None:
    onnx.save(onnxslim.slim(onnx.load(source)), target)


EXACT: dict[str, Tool] = {
    ".ort": to_ort,
    "opset 21": to_opset(21),
    "newest opset": to_opset(newest_opset()),
    "onnxslim": simplify,
}
ROUNDING: dict[str, tuple[Tool, float]] = {"int8": (quantize_dynamic, 0.1), "float16": (to_float16, 0.005)}
"""Tools that make a smaller file, each with the largest deviation of a log-probability in nats."""


@pytest.fixture(scope="module", params=["mlp", "fused", "table"])
def folder(
    request: pytest.FixtureRequest, run_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An export in each form."""
    out = tmp_path_factory.mktemp(request.param)
    export_checkpoint(run_folder / "best.ckpt", out, form=request.param)
    return out


def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def log_probs(file: Path) -> NDArray[np.float64]:
    opened = session(file)
    assert json.loads(opened.get_modelmeta().custom_metadata_map["makemore.block_size"]) == 3
    [logits] = opened.run(["logits"], {"context": CONTEXTS})
    wide = logits.astype(np.float64)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the .ort converter's open files
@pytest.mark.parametrize("tool", EXACT)
def test_same_logits_and_names_from_both_files(folder: Path, tmp_path: Path, tool: str) -> None:
    suffix = ".ort" if tool == ".ort" else ".onnx"  # by which ONNX Runtime knows its own format
    model, sampler = tmp_path / f"model{suffix}", tmp_path / f"sampler{suffix}"
    for changed in (model, sampler):
        EXACT[tool](folder / f"{changed.stem}.onnx", changed)
    assert np.abs(log_probs(model) - log_probs(folder / "model.onnx")).max() < 1e-5
    names, same_names = (
        session(f).run(["codepoints"], REQUEST)[0] for f in (sampler, folder / "sampler.onnx")
    )
    assert np.array_equal(names, same_names)


@pytest.mark.parametrize("tool", ROUNDING)
def test_smaller_files_and_nearly_the_same_logits(folder: Path, tmp_path: Path, tool: str) -> None:
    convert, deviation = ROUNDING[tool]
    source, target = folder / "model.onnx", tmp_path / "small.onnx"
    convert(source, target)
    assert target.stat().st_size < 0.6 * source.stat().st_size
    assert 0 < np.abs(log_probs(target) - log_probs(source)).max() < deviation


@pytest.mark.parametrize("tool", ROUNDING)
def test_a_sampler_is_not_made_smaller(folder: Path, tmp_path: Path, tool: str) -> None:
    """What the note warns of: the file is written, and no runtime opens it, or it has become no smaller."""
    source, target = folder / "sampler.onnx", tmp_path / "small.onnx"
    ROUNDING[tool][0](source, target)
    if tool == "int8":
        assert target.stat().st_size >= source.stat().st_size
        names, same_names = (session(file).run(["codepoints"], REQUEST)[0] for file in (target, source))
        assert np.array_equal(names, same_names)
    else:
        with pytest.raises(Exception, match=r"Load model from .* failed"):
            session(target)
