"""What a file says of itself: read back as it was written, and refused where it cannot be so."""

from dataclasses import replace
from pathlib import Path

import pytest

from makemore_pl.errors import ModelFileError
from makemore_pl.exported.metadata import ModelInfo, find_model, newest_export

PROOF = {"contexts": 27, "contexts_total": 27, "exhaustive": True, "largest_deviation": 1e-7}
INFO = ModelInfo(
    characters="abc",
    block_size=3,
    n_embd=10,
    n_hidden=200,
    n_layers=1,
    n_parameters=12_097,
    form="mlp",
    longest_name=9,
    list_name="locations",
    list_sha256="00ff",
    export_id="17",
    versions={"torch": "2.13.0"},
    verification=PROOF,
)
LABELLED = replace(INFO, labels=["F", "M"], label_shares=[0.75, 0.25], normalize="nfkc", case="title")


def test_metadata_is_read_back() -> None:
    assert ModelInfo.from_metadata(INFO.to_metadata(), Path("file")) == INFO


def test_what_is_optional_is_stored_where_it_says_something() -> None:
    texts = INFO.to_metadata()
    assert not {"labels", "label_shares", "normalize", "case"} & {key.split(".")[1] for key in texts}
    assert ModelInfo.from_metadata(LABELLED.to_metadata(), Path("file")) == LABELLED


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("characters", None),
        ("verification", None),
        ("characters", '""'),
        ("characters", '"aaa"'),
        ("characters", '"cba"'),
        ("characters", r'"ab\ud800"'),
        ("characters", r'"\nab"'),
        ("characters", "3"),
        ("block_size", "0"),
        ("block_size", "-3"),
        ("block_size", "true"),
        ("block_size", "3.0"),
        ("longest_name", "1000000000"),
        ("form", '"spiral"'),
        ("form", "[]"),
        ("verification", '{"contexts": "all"}'),
        ("verification", "[]"),
        ("versions", '{"torch": []}'),
        ("export_id", "7"),
        ("n_parameters", "9" * 5_000),
        ("versions", "[" * 100_000),
        ("list_name", "{"),
        ("labels", '["F"]'),
        ("labels", '["F", "F"]'),
        ("labels", '["F", ""]'),
        ("labels", '["F", 1]'),
        ("labels", '{"F": 1, "M": 2}'),
        ("label_shares", "[1]"),
        ("label_shares", "[0.5, 0.6]"),
        ("label_shares", "[1.5, -0.5]"),
        ("label_shares", "[NaN, 0.5]"),
        ("label_shares", "[1.0]"),
        ("normalize", '"nfx"'),
        ("case", '["lower"]'),
    ],
)
def test_damaged_metadata(name: str, text: str | None) -> None:
    metadata = LABELLED.to_metadata()
    del metadata[f"makemore.{name}"]
    if text is not None:
        metadata[f"makemore.{name}"] = text
    with pytest.raises(
        ModelFileError, match=r"^file: (damaged metadata|no \w+ in its metadata: .* export it again$)"
    ):
        ModelInfo.from_metadata(metadata, Path("file"))


def test_other_formats() -> None:
    with pytest.raises(ModelFileError, match="not exported by makemore"):
        ModelInfo.from_metadata({"producer": "another"}, Path("file"))
    with pytest.raises(ModelFileError, match="format version 2; this program reads 1; export it again"):
        ModelInfo.from_metadata({**INFO.to_metadata(), "makemore.format_version": "2"}, Path("file"))


def test_where_exports_lie(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no export found"):
        newest_export(tmp_path)
    with pytest.raises(ModelFileError, match=r"the folder holds no model\.onnx"):
        find_model(tmp_path, "sampler.onnx", "model.onnx")
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.onnx").touch()
    assert newest_export(tmp_path) == run
    assert find_model(run, "sampler.onnx", "model.onnx") == run / "model.onnx"
    assert find_model(tmp_path / "any.onnx", "model.onnx") == tmp_path / "any.onnx"
