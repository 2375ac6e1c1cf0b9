"""ONNX files that are damaged, forged or hostile: one line, and nothing computed that was not checked."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import RunCommand, assert_one_line_error
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from makemore_pl import Sampler
from makemore_pl.errors import ModelFileError, VerificationError
from makemore_pl.export.export import FORMS, verify_file
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.runs.checkpoint import read_checkpoint
from makemore_pl.runtime.metadata import ModelInfo
from makemore_pl.runtime.operators import (
    MODEL_OPERATORS,
    SAMPLER_OPERATORS,
    _survey,
    expect_known_operators,
)

Change = Callable[[onnx.ModelProto], None]


def changed(source: Path, to: Path, change: Change) -> Path:
    """A copy of an ONNX file with something changed, written to `to`."""
    model = onnx.load_from_string(source.read_bytes())
    change(model)
    to.write_bytes(model.SerializeToString())
    return to


class Raw(str):
    """Text that need not be JSON."""


def with_metadata(**values: object) -> Change:
    """Forged metadata: JSON values, or None to leave a key out."""

    def change(model: onnx.ModelProto) -> None:
        kept = {p.key: p.value for p in model.metadata_props}
        for name, value in values.items():
            kept.pop(f"makemore.{name}")
            if value is not None:
                kept[f"makemore.{name}"] = value if isinstance(value, Raw) else json.dumps(value)
        del model.metadata_props[:]
        helper.set_model_props(model, kept)

    return change


def embedding(model: onnx.ModelProto) -> TensorProto:
    [tensor] = [t for t in model.graph.initializer if len(t.dims) == 2 and t.dims[1] == 10]
    return tensor


def external_data(location: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = embedding(model)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def before_the_output(*nodes: onnx.NodeProto, **constants: np.ndarray) -> Change:
    """Nodes between the network's logits, now called `plain`, and the output `logits`."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["plain" if name == "logits" else name for name in node.output]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())

    return change


def declared(dims: list[int], *, keep_data: bool = True) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = embedding(model)
        tensor.dims[:] = dims
        if not keep_data:
            tensor.ClearField("raw_data")

    return change


def weights_that_are_no_numbers(model: onnx.ModelProto) -> None:
    tensor = embedding(model)
    tensor.raw_data = np.full(tuple(tensor.dims), np.nan, dtype=np.float32).tobytes()


def a_function_of_its_own(model: onnx.ModelProto) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("", "Tanh", ["x"], ["y"], [node], opsets))


def of_another_kind(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


LOOP = helper.make_graph(
    [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["value"], ["same"])],
    "body",
    [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
    ],
    [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("same", TensorProto.FLOAT, None),
    ],
)

HOSTILE: dict[str, tuple[Change, str]] = {
    "data above its folder": (external_data("../secret.bin"), "data in another file"),
    "data at an absolute path": (external_data("/etc/passwd"), "data in another file"),
    "data beside it": (external_data("weights.bin"), "data in another file"),
    "another operator": (
        before_the_output(helper.make_node("Relu", ["plain"], ["logits"])),
        "operator 'Relu'",
    ),
    "an unknown operator": (
        before_the_output(helper.make_node("Exploit", ["plain"], ["logits"])),
        "operator 'Exploit'",
    ),
    "an operator of a plug-in": (
        before_the_output(helper.make_node("Tanh", ["plain"], ["logits"], domain="com.evil")),
        "operator 'com.evil.Tanh'",
    ),
    "an endless loop": (
        before_the_output(
            helper.make_node("Loop", ["trips", "true", "plain"], ["logits"], body=LOOP),
            trips=np.array(1 << 62),
            true=np.array(True),
        ),
        "operator 'Identity', operator 'Loop'",
    ),
    "memory for four terabytes": (
        before_the_output(
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Add", ["plain", "zero"], ["logits"]),
            size=np.array([1 << 40]),
        ),
        "operator 'ConstantOfShape'",
    ),
    "functions of its own": (a_function_of_its_own, "functions of its own"),
    "a giant initializer": (declared([1 << 40, 10]), "not a readable ONNX model"),
    "a giant initializer without data": (
        declared([1 << 30, 10], keep_data=False),
        "not a readable ONNX model",
    ),
    "a negative dimension": (declared([-26, 10]), "not a readable ONNX model"),
    "weights that are no numbers": (weights_that_are_no_numbers, "log-likelihoods are no numbers"),
    "ids of another type": (of_another_kind, ""),
    "no metadata": (lambda model: model.ClearField("metadata_props"), "not exported by makemore"),
    "no vocabulary": (with_metadata(characters=None), "damaged metadata"),
    "no proof": (with_metadata(verification=None), "damaged metadata"),
    "format of tomorrow": (with_metadata(format_version=2), "this program reads 1"),
    "vocabulary too small": (with_metadata(characters="abc"), "expected outputs"),
    "vocabulary empty": (with_metadata(characters=""), "damaged metadata"),
    "vocabulary with repeats": (with_metadata(characters="a" * 26), "damaged metadata"),
    "vocabulary in another order": (
        with_metadata(characters="zyxwvutsrqponmlkjihgfedcba"),
        "damaged metadata",
    ),
    "vocabulary with half a character": (with_metadata(characters="ab\ud800"), "damaged metadata"),
    "vocabulary with line ends": (with_metadata(characters="\nab"), "damaged metadata"),
    "context of 0": (with_metadata(block_size=0), "damaged metadata"),
    "context of -3": (with_metadata(block_size=-3), "damaged metadata"),
    "context of 10^9": (with_metadata(block_size=10**9), "expected inputs"),
    "context of true": (with_metadata(block_size=True), "damaged metadata"),
    "names of 10^9": (with_metadata(longest_name=10**9), "damaged metadata"),
    "names of -5": (with_metadata(longest_name=-5), "damaged metadata"),
    "an unknown form": (with_metadata(form="spiral"), "damaged metadata"),
    "a proof of texts": (with_metadata(verification={"contexts": "all"}), "damaged metadata"),
    "versions of lists": (with_metadata(versions={"torch": []}), "damaged metadata"),
    "a number of 5,000 digits": (with_metadata(n_parameters=Raw("9" * 5_000)), "damaged metadata"),
    "brackets 100,000 deep": (with_metadata(versions=Raw("[" * 100_000)), "damaged metadata"),
    "no JSON": (with_metadata(list_name=Raw("{")), "damaged metadata"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_model_files(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(4 * 27 * 10))
    (tmp_path.parent / "secret.bin").write_bytes(bytes(4 * 27 * 10))
    change, message = HOSTILE[case]
    file = changed(run_folder / "model.onnx", tmp_path / "bad.onnx", change)
    before = sorted(tmp_path.iterdir())
    (tmp_path / "names.txt").write_text("emma\n")
    for args in (("sample", file, "-n", 3), ("score", file, "names.txt")):
        result = makemore(*args)
        assert result.code == 2
        assert result.out.replace(" ", "") in ("", "log_probpercharperplexityname\n")
        assert_one_line_error(result.err, message)
    verified = makemore("verify", file, run_folder / "best.ckpt")
    assert verified.code in (1, 2)
    assert_one_line_error(verified.err, "")
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "names.txt"])


@pytest.mark.parametrize("text", [b"context", b"logits", b"makemore.versions"])
@pytest.mark.parametrize("command", ["sample", "score", "info", "verify"])
def test_texts_that_are_no_text(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, text: bytes, command: str
) -> None:
    """Names that are no UTF-8: ONNX Runtime reads them all the same, and Python cannot."""
    file, names = tmp_path / "bad.onnx", tmp_path / "names.txt"
    names.write_text("emma\n")
    file.write_bytes((run_folder / "model.onnx").read_bytes().replace(text, text[:-1] + b"\xff"))
    more = {"score": [names], "verify": [run_folder / "best.ckpt"]}.get(command, [])
    result = makemore(command, file, *more)
    assert result.code == 2
    assert result.out == ""
    assert_one_line_error(result.err, "bad.onnx")


def test_forged_characters_of_a_sampler_fail_verification(run_folder: Path, tmp_path: Path) -> None:
    """The ids are right, but stand for other characters: in the metadata, and in the graph itself."""
    characters = Sampler(run_folder).info.characters

    def swap(model: onnx.ModelProto) -> None:
        [tensor] = [
            t for t in model.graph.initializer if list(t.dims) == [len(characters) + 1] and t.data_type == 6
        ]
        codepoints = numpy_helper.to_array(tensor).copy()
        codepoints[[3, 4]] = codepoints[[4, 3]]
        tensor.CopyFrom(numpy_helper.from_array(codepoints, tensor.name))

    swapped = changed(run_folder / "sampler.onnx", tmp_path / "swapped.onnx", swap)
    with pytest.raises(VerificationError, match="is not the trained model"):
        verify_file(swapped, run_folder / "best.ckpt")
    forged = changed(
        run_folder / "sampler.onnx", tmp_path / "forged.onnx", with_metadata(characters=characters.upper())
    )
    with pytest.raises(VerificationError, match="of another model \\(characters is"):
        verify_file(forged, run_folder / "best.ckpt")


def test_names_that_a_terminal_would_obey_are_escaped(
    makemore: RunCommand, run_folder: Path, tmp_path: Path
) -> None:
    forged = with_metadata(list_name="\x1b[2J evil\nline", versions={"\x1b]0;title\x07": "1"})
    file = changed(run_folder / "model.onnx", tmp_path / "forged.onnx", forged)
    result = makemore("info", file)
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "\x07" not in result.out
    assert r"\x1b[2J evil\nline" in result.out


@pytest.mark.parametrize(
    "kind", ["garbage", "empty", "cut short", "a checkpoint", "a folder", "a pipe", "huge"]
)
def test_what_is_no_model_file(makemore: RunCommand, run_folder: Path, tmp_path: Path, kind: str) -> None:
    good = (run_folder / "model.onnx").read_bytes()
    file = tmp_path / "bad.onnx"
    if kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    elif kind == "huge":
        with file.open("wb") as sparse:
            sparse.truncate(5 << 30)
    else:
        checkpoint = (run_folder / "best.ckpt").read_bytes()
        contents = {"garbage": os.urandom(5_000), "empty": b"", "cut short": good[: len(good) // 2]}
        file.write_bytes(contents.get(kind, checkpoint))
    message = {"a folder": "holds no model.onnx", "a pipe": "a pipe or a device", "huge": "is refused"}
    for args in (("sample", file), ("info", file), ("verify", file, run_folder / "best.ckpt")):
        result = makemore(*args)
        assert result.code == 2
        assert_one_line_error(result.err, message.get(kind, "") if args[0] != "verify" else "")


def test_flipped_bits(run_folder: Path, tmp_path: Path) -> None:
    """Any damage is an error of ours, or weights that verification judges; the process lives on."""
    good = (run_folder / "model.onnx").read_bytes()
    file = tmp_path / "flipped.onnx"
    rng = np.random.default_rng(0)
    places = rng.choice(len(good), 60, replace=False)
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            names = Sampler(file).sample(5, seed=1)
        except ModelFileError:
            continue
        assert len(names) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's data against a limit")
def test_a_sampler_that_would_take_all_memory(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Allowed operators alone: 64 GiB of ones, added up and put into the log-likelihoods."""

    def greedy(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["plain" if name == "log_prob" else name for name in node.output]
        model.graph.node.extend(
            [
                helper.make_node("Expand", ["one", "size"], ["ones"]),
                helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
                helper.make_node("Add", ["plain", "sum"], ["log_prob"]),
            ]
        )
        constants = {"one": np.ones(1, dtype=np.float32), "size": np.array([1 << 34])}
        model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())

    monkeypatch.setenv("MAKEMORE_MAX_MEMORY", "1G")
    file = changed(run_folder / "sampler.onnx", tmp_path / "greedy.onnx", greedy)
    for options in ((), ("-n", 20_000)):  # few names, and so many that the tables are computed at load
        result = makemore("sample", file, *options)
        assert result.code == 2
        assert result.out == ""
        assert_one_line_error(result.err, "greedy.onnx: out of memory; the program may take 1.0 GiB")
    assert makemore("sample", run_folder, "-n", 20_000).code == 0  # what is asked for honestly fits


def test_a_file_that_must_not_be_read(
    makemore: RunCommand, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its permissions, which hold nothing back from root, as whom tests may be run."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for command in ("sample", "score", "info"):
        result = makemore(command, run_folder, *([run_folder / "config.yaml"] if command == "score" else []))
        assert result.code == 2
        assert_one_line_error(result.err, "onnx: Permission denied")


@given(st.binary(max_size=300))
def test_any_bytes_are_surveyed_or_refused(content: bytes) -> None:
    with suppress(ModelFileError):
        expect_known_operators(content, Path("file"))


def test_operators_that_are_allowed_are_those_that_are_written(run_folder: Path) -> None:
    """Not one more, not one less; and the survey sees what the package onnx sees."""
    weights = FoldedWeights.from_layers(fold(read_checkpoint(run_folder / "best.ckpt").load_model().layers))
    codepoints = Sampler(run_folder).info.vocabulary.token_codepoints
    models = [onnx.load(run_folder / "model.onnx"), *(build_model(weights, form) for form in FORMS)]
    samplers = [build_sampler(weights, form, codepoints) for form in FORMS]
    for files, expected in ((models, MODEL_OPERATORS), (models + samplers, SAMPLER_OPERATORS)):
        used: set[str] = set()
        for model in files:
            seen, inputs, foreign = _survey(memoryview(model.SerializeToString()))
            assert seen == {node.op_type for node in all_nodes(model.graph)}
            assert inputs == {value.name for value in model.graph.input}
            assert not foreign
            used |= seen
        assert used == expected


def all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for g in inner for node in all_nodes(g))]


def test_metadata_of_an_export_is_sound(run_folder: Path) -> None:
    model = onnx.load(run_folder / "model.onnx")
    metadata = {p.key: p.value for p in model.metadata_props}
    assert ModelInfo.from_metadata(metadata, run_folder).to_metadata() == metadata
