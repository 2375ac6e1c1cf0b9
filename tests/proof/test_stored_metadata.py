"""All metadata of a file that follow from its checkpoint are compared with it."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from makemore_pl.errors import VerificationError
from makemore_pl.exported.metadata import ModelInfo
from makemore_pl.proof.network_reader import StoredFile
from makemore_pl.proof.stored_metadata import expect_same_claim, expect_same_info

INFO = ModelInfo("abc", 3, 10, 200, 2, 5_000, "mlp", 8, "names", "f" * 64, "0" * 16)
LABELLED = replace(INFO, labels=["F", "M"], label_shares=[0.75, 0.25], normalize="nfc", case="lower")
REPORT = {"passed": True, "contexts": 64, "contexts_total": 64, "exhaustive": True, "names": 12_345}
REPORT |= {"largest_deviation": 1e-6, "bound": 1e-4}
CLAIM = {**REPORT, "largest_deviation": 2e-6}
"""Of a machine that rounds otherwise."""
VERSIONS = {"torch": "2.99"}


def stored(
    info: ModelInfo = INFO, change: Callable[[dict[str, str]], object] = lambda texts: None, **values: Any
) -> StoredFile:
    """A file of `info`, with other values or other texts."""
    info = replace(info, **{"versions": VERSIONS, "verification": CLAIM, **values})
    texts = info.to_metadata()
    change(texts)
    model = onnx.ModelProto()
    helper.set_model_props(model, texts)
    return StoredFile(Path("file"), b"", model, ModelInfo.from_metadata(texts, Path("file")))


def test_the_metadata_due_pass_with_another_tools() -> None:
    expect_same_info(stored(), INFO, "mlp")
    expect_same_info(stored(form="fused"), INFO, "fused")
    expect_same_info(stored(change=lambda texts: texts.update(note="mine")), INFO, "mlp")


@pytest.mark.parametrize("key", [*asdict(INFO)])
def test_every_value_is_compared(key: str) -> None:
    value = getattr(LABELLED, key)
    if key in ("versions", "verification", "format_version"):
        return  # the libraries', compared below, and refused when read
    by_key = {"form": "table", "normalize": "nfkc", "case": "title", "labels": ["M", "F"]}
    other = by_key.get(key) or ([0.5, 0.5] if key == "label_shares" else {str: "ab", int: 4}[type(value)])
    with pytest.raises(VerificationError, match=f"of another model .{key} is"):
        expect_same_info(stored(LABELLED, **{key: other}), LABELLED, "mlp")
    with pytest.raises(VerificationError, match=r"of another model .labels is"):
        expect_same_info(stored(LABELLED), INFO, "mlp")
    with pytest.raises(VerificationError, match=r"of another model .labels is"):
        expect_same_info(stored(INFO), LABELLED, "mlp")


@pytest.mark.parametrize(
    "change",
    [
        lambda texts: texts.update({"makemore.block_size": " 3"}),
        lambda texts: texts.update({"makemore.list_name": r'"\u006eames"'}),
        lambda texts: texts.update({"makemore.more": "1"}),
    ],
)
def test_other_texts_of_the_same_values_are_refused(change: Callable[[dict[str, str]], object]) -> None:
    with pytest.raises(VerificationError, match="metadata of another model"):
        expect_same_info(stored(change=change), INFO, "mlp")


def test_a_key_twice_is_refused() -> None:
    """ONNX Runtime might read the other one."""
    file = stored()
    file.model.metadata_props.add(key="makemore.block_size", value="3")
    with pytest.raises(VerificationError, match="metadata of another model"):
        expect_same_info(file, INFO, "mlp")


def claim(
    report: dict[str, Any] = REPORT, bounds: tuple[float | None, ...] = (3e-5, 1e-4), **values: Any
) -> None:
    verification = {key: value for key, value in (CLAIM | values).items() if value is not ...}
    file = StoredFile(Path("file"), b"", onnx.ModelProto(), replace(INFO, verification=verification))
    expect_same_claim(file, report, bounds, tolerance=1e-5)


def test_the_same_proof_passes() -> None:
    claim()
    claim(largest_deviation=1e-5, bound=1e-4 * (1 + 1e-9))
    claim(bounds=(None,), bound=None)
    claim({**REPORT, "contexts": None}, contexts=60)  # the list that they came from is gone


@pytest.mark.parametrize(
    "values",
    [
        *({key: ...} for key in CLAIM),
        {"more": 1},
        {"passed": False},
        {"passed": None},
        {"contexts": 63},
        {"contexts_total": 65},
        {"exhaustive": False},
        {"names": 12_344},
        {"largest_deviation": 1.1e-5},
        {"largest_deviation": -1e-9},
        {"largest_deviation": float("nan")},
        {"largest_deviation": None},
        {"bound": 1.0000015e-4},
        {"bound": 0.9999985e-4},
        {"bound": None},
        {"bound": "1e-4"},
    ],
    ids=str,
)
def test_another_proof_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(VerificationError, match=f"another proof .{next(iter(values))}"):
        claim(**values)


def test_a_claim_of_contexts_that_cannot_be_known_again_is_a_number() -> None:
    with pytest.raises(VerificationError, match="another proof"):
        claim({**REPORT, "contexts": None}, contexts="many")
    with pytest.raises(VerificationError, match="another proof"):
        claim(bounds=(None,))
