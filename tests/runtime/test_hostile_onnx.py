"""ONNX files that are damaged, forged or hostile: a clear error, and no other file read."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers import RunCommand
from onnx import TensorProto, helper, numpy_helper

from makemore_pl import Sampler, Scorer
from makemore_pl.errors import MemoryLimitError, ModelFileError
from makemore_pl.exported.session import expect_data_inside

Change = Callable[[onnx.ModelProto], object]


def changed(source: Path, to: Path, change: Change) -> Path:
    """A copy of an ONNX file with something changed, written to `to`."""
    model = onnx.load_from_string(source.read_bytes())
    change(model)
    to.write_bytes(model.SerializeToString())
    return to


def with_metadata(**values: str) -> Change:
    """Other JSON texts in the metadata."""

    def change(model: onnx.ModelProto) -> None:
        kept = {p.key: p.value for p in model.metadata_props}
        kept |= {f"makemore.{name}": value for name, value in values.items()}
        del model.metadata_props[:]
        helper.set_model_props(model, kept)

    return change


def embedding(model: onnx.ModelProto) -> TensorProto:
    [tensor] = [t for t in model.graph.initializer if len(t.dims) == 2 and t.dims[1] == 24]
    return tensor


def external_data(location: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = embedding(model)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def before_the_output(output: str, *nodes: onnx.NodeProto, **constants: np.ndarray) -> Change:
    """Nodes between what was an output, now called `plain`, and that output."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["plain" if name == output else name for name in node.output]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())

    return change


def nan_weights(model: onnx.ModelProto) -> None:
    tensor = embedding(model)
    tensor.raw_data = np.full(tuple(tensor.dims), np.nan, dtype=np.float32).tobytes()


def int32_ids(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


UNREADABLE = "not a readable ONNX model"
MODELS: dict[str, tuple[Change, str]] = {
    "data at an absolute path": (external_data("/etc/passwd"), "data in another file"),
    "an operator of a plug-in": (
        before_the_output("logits", helper.make_node("Tanh", ["plain"], ["logits"], domain="com.evil")),
        UNREADABLE,
    ),
    "a giant initializer": (lambda model: embedding(model).dims.__setitem__(0, 1 << 40), "bad.onnx: "),
    "weights that are NaN": (nan_weights, "log-likelihoods are NaN"),
    "ids of another type": (int32_ids, "bad.onnx: "),
    "no metadata": (lambda model: model.ClearField("metadata_props"), "not exported by makemore"),
    "vocabulary too small": (with_metadata(characters='"abc"'), "expected outputs"),
    "damaged metadata": (with_metadata(versions="["), "damaged metadata"),
    "logits of twice as many": (
        before_the_output("logits", helper.make_node("Concat", ["plain", "plain"], ["logits"], axis=0)),
        "its logits have the shape",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_hostile_models(run_folder: Path, tmp_path: Path, case: str) -> None:
    change, message = MODELS[case]
    file = changed(run_folder / "model.onnx", tmp_path / "bad.onnx", change)
    with pytest.raises((ModelFileError, MemoryLimitError), match=message):
        Sampler(file).sample(3)
    with pytest.raises((ModelFileError, MemoryLimitError), match=message):
        Scorer(file).score(["emma"])


CODEPOINTS: dict[str, tuple[Change, str]] = {
    "beyond Unicode": (
        before_the_output(
            "codepoints",
            helper.make_node("Add", ["plain", "far"], ["codepoints"]),
            far=np.array(0x110000, dtype=np.int32),
        ),
        "not in Unicode",
    ),
    "negative": (
        before_the_output("codepoints", helper.make_node("Neg", ["plain"], ["codepoints"])),
        "not in Unicode",
    ),
    "twice as many": (
        before_the_output(
            "codepoints", helper.make_node("Concat", ["plain", "plain"], ["codepoints"], axis=0)
        ),
        "other than 5 names",
    ),
    "in one row": (
        before_the_output(
            "codepoints", helper.make_node("Reshape", ["plain", "flat"], ["codepoints"]), flat=np.array([-1])
        ),
        "expected outputs",
    ),
    "one log-likelihood for all": (
        before_the_output("log_prob", helper.make_node("ReduceSum", ["plain"], ["log_prob"], keepdims=0)),
        "other than 5 names",
    ),
}


@pytest.mark.parametrize("case", CODEPOINTS)
def test_hostile_samplers(run_folder: Path, tmp_path: Path, case: str) -> None:
    change, message = CODEPOINTS[case]
    file = changed(run_folder / "sampler.onnx", tmp_path / "bad.onnx", change)
    with pytest.raises(ModelFileError, match=message):
        Sampler(file, prepare=False).sample(5)


def test_any_encoding_of_external_data_is_found() -> None:
    path = Path("file")
    expect_data_inside(b'\x0a\x0bmakemore.list_name\x12\x0b"locations"', path)
    for length in (b"\x08", b"\x88\x00", b"\x88\x80\x00"):  # 8, as short and as long as an encoder likes
        with pytest.raises(ModelFileError, match="data in another file"):
            expect_data_inside(b"\x6a\x12\x0a" + length + b"location\x12\x06../bin", path)


def test_onnx_runtimes_own_format_is_refused(run_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.ort"
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(file)
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(run_folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    with pytest.raises(ModelFileError, match=UNREADABLE):
        Sampler(file)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's data against a limit")
def test_a_file_that_would_take_all_memory_is_one_line(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 GiB of ones, added up and put into the log-likelihoods."""
    greedy = before_the_output(
        "log_prob",
        helper.make_node("Expand", ["one", "size"], ["ones"]),
        helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        helper.make_node("Add", ["plain", "sum"], ["log_prob"]),
        one=np.ones(1, dtype=np.float32),
        size=np.array([1 << 34]),
    )
    monkeypatch.setenv("MAKEMORE_MAX_MEMORY", "1G")
    file = changed(run_folder / "sampler.onnx", tmp_path / "greedy.onnx", greedy)
    (tmp_path / "ids.txt").write_text("1\n")
    for options in ((), ("--ids", tmp_path / "ids.txt")):  # all in one call, or one by one
        result = makemore("sample", file, *options)
        assert result.fails_with("greedy.onnx: out of memory; at most 1.0 GiB").out == ""
    makemore("sample", run_folder, "-n", 20_000).succeeds()  # what is asked for honestly fits


def test_texts_that_are_not_utf8(run_folder: Path, tmp_path: Path) -> None:
    """ONNX Runtime reads such names all the same, and Python cannot."""
    file = tmp_path / "bad.onnx"
    for text in (b"context", b"logits", b"makemore.versions"):
        file.write_bytes((run_folder / "model.onnx").read_bytes().replace(text, text[:-1] + b"\xff"))
        with pytest.raises(ModelFileError, match=r"bad\.onnx: damaged .a name is not UTF-8"):
            Sampler(file)


def test_names_that_a_terminal_would_obey_are_escaped(
    makemore: RunCommand, run_folder: Path, tmp_path: Path
) -> None:
    forged = with_metadata(list_name=r'"\u001b[2J evil\nline"', versions=r'{"\u001b]0;title\u0007": "1"}')
    file = changed(run_folder / "model.onnx", tmp_path / "forged.onnx", forged)
    result = makemore("info", file).succeeds()
    assert "\x1b" not in result.out
    assert "\x07" not in result.out
    assert r"\x1b[2J evil\nline" in result.out


def test_what_is_no_model_file(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (run_folder / "model.onnx").read_bytes()
    checkpoint = (run_folder / "best.ckpt").read_bytes()
    for content in (b"", b"anna\n" * 1_000, good[: len(good) // 2], checkpoint):
        (tmp_path / "bad.onnx").write_bytes(content)
        for open_file in (Sampler, Scorer):
            with pytest.raises(ModelFileError, match=r"bad\.onnx: "):
                open_file(tmp_path / "bad.onnx")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as sparse:
        sparse.truncate(5 << 30)
    for name, message in (("pipe", "a pipe or a device"), ("huge", "is refused")):
        with pytest.raises(ModelFileError, match=rf"{name}: .*{message}"):
            Sampler(tmp_path / name)

    def refuse(path: Path) -> bytes:  # permissions hold nothing back from root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ModelFileError, match=r"onnx: Permission denied"):
        Sampler(run_folder)
