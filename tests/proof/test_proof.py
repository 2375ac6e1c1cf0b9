"""The steps of the proof on a small network: what is compared with what, and what the report says of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import trained_like

from makemore_pl.errors import VerificationError
from makemore_pl.export.onnx_file import save_checked
from makemore_pl.exported.metadata import Form, ModelInfo
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof import proof
from makemore_pl.proof import trials as trials_module
from makemore_pl.proof.certificate import Certificate, certify
from makemore_pl.proof.contexts import ContextSet
from makemore_pl.proof.logits import Check, float32_tolerance
from makemore_pl.proof.names import SameNames
from makemore_pl.proof.network_reader import stored_network
from makemore_pl.proof.progress import chunks_with_progress
from makemore_pl.proof.proof import prove
from makemore_pl.proof.proof_report import Report
from makemore_pl.proof.trials import Trial, trials

INFO = ModelInfo("abcd", 2, 10, 6, 1, 500, "mlp", 4, "names", "f" * 64, "0" * 16)
LABELLED = replace(INFO, labels=["F", "M"], label_shares=[0.75, 0.25])


class Case:
    """A trained network, and its files."""

    def __init__(self, info: ModelInfo = INFO) -> None:
        network = BatchNormMLP(5, 2, n_hidden=6, n_labels=len(info.labels), init_seed=1, output_gain=1.0)
        self.info, self.model = info, trained_like(network)
        self.folded = fold(self.model.layers)
        self.weights = FoldedWeights.from_layers(self.folded)
        self.contexts = ContextSet(5, 2, len(info.labels), list_missing=False)

    def write(self, folder: Path, form: Form, sampler_form: Form, claim: dict[str, Any]) -> list[Path]:
        codepoints = self.info.vocabulary.token_codepoints
        graphs = {
            "model.onnx": (build_model(self.weights, form), form),
            "sampler.onnx": (build_sampler(self.weights, sampler_form, codepoints), sampler_form),
        }
        for name, (graph, own) in graphs.items():
            save_checked(graph, replace(self.info, form=own, verification=claim), folder / name)
        return [folder / name for name in graphs]

    def prove(self, files: list[Path], **options: Any) -> Report:
        return prove(self.model, self.folded, self.info, self.contexts, files, **options)

    def bound(self, form: Form) -> Certificate:
        return certify(self.weights, stored_network(build_model(self.weights, form), self.weights, form))


CASE = Case()


@pytest.fixture(autouse=True)
def few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """And few kinds of requests: test_trials.py is about them."""
    few = {"PLAIN_NAMES": 200, "TEMPERATURES": (1.0, 0.5), "FILTERS": ({}, {"top_k": 3})}
    for name, value in few.items():
        monkeypatch.setattr(trials_module, name, value)


@pytest.mark.parametrize("info", [INFO, LABELLED], ids=["plain", "labelled"])
def test_every_form_of_the_model_is_compared(tmp_path: Path, info: ModelInfo) -> None:
    case = Case(info)
    report = case.prove(case.write(tmp_path, "mlp", "table", {}))
    in_batches = [f"model.onnx, batches of {n}" for n in (1, 2, 3, 64)]
    names = ["folded in float64", "folded in float32", "model.onnx", *in_batches]
    assert [check.name for check in report.checks] == names
    n_contexts = 25 * max(1, len(info.labels))
    assert {check.contexts for check in report.checks} == {report.contexts} == {report.total} == {n_contexts}
    in_float64, *in_float32 = report.checks
    assert in_float64.largest < 1e-13 < in_float64.tolerance
    assert all(check.largest > 1e-9 for check in in_float32)
    assert {check.tolerance for check in in_float32} == {float32_tolerance(case.weights)}
    assert report.certificate == case.bound("mlp")
    assert report.names is not None
    assert report.names.names == sum(trial.n for trial in trials(case.weights, 8))
    assert (report.characters, report.labels, report.list_missing) == ("abcd", info.labels, False)


def test_one_file_alone(tmp_path: Path) -> None:
    model, sampler = CASE.write(tmp_path, "fused", "mlp", {})
    of_model, of_sampler = CASE.prove([model]), CASE.prove([sampler])
    assert (of_model.names, of_model.certificate) == (None, CASE.bound("fused"))
    assert of_sampler.names is not None
    assert of_sampler.certificate is None
    assert len(of_sampler.checks) == 2
    assert CASE.prove(CASE.write(tmp_path, "table", "table", {})[:1]).certificate is None


@pytest.mark.parametrize("in_a_table", [True, False])
def test_samplers_are_used_as_the_runtime_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_a_table: bool
) -> None:
    prepared, samplers, requests, looked_up = [], [], [], []

    def open_engine(path: Path, *, prepare: bool = True, content: bytes) -> Any:
        prepared.append(prepare)
        return own(path, prepare=prepare, content=content)

    def compare_names(used: list[Any], asked: Iterator[Trial], logits: Any, *rest: Any) -> SameNames:
        samplers.extend(sampler.__name__ for sampler in used)
        requests.extend(asked)
        looked_up.append(logits.__name__ == "<lambda>")
        return SameNames(0, 0, 0.0)

    own = proof.open_engine
    monkeypatch.setattr(proof, "open_engine", open_engine)
    monkeypatch.setattr(proof, "compare_names", compare_names)
    if not in_a_table:
        monkeypatch.setattr("makemore_pl.model.folded_weights.ENUMERABLE_LIMIT", 10)
    files = CASE.write(tmp_path, "mlp", "table" if in_a_table else "mlp", {})
    files[0].unlink()  # else the runtime takes all logits from there
    CASE.prove(files[1:])
    assert prepared == [True, False]
    assert samplers == ["generate_all", "generate_all", *["generate_by_tables"] * in_a_table]
    assert looked_up == [in_a_table]
    assert {trial.steps for trial in requests} == {2 * INFO.longest_name}


@pytest.mark.parametrize("forms", [("mlp", "table"), ("fused", "fused"), ("table", "table"), ("mlp", "mlp")])
def test_a_proof_that_a_file_tells_of_is_made_again(tmp_path: Path, forms: tuple[Form, Form]) -> None:
    report = CASE.prove(CASE.write(tmp_path, *forms, {}))
    claim = report.summary()
    files = CASE.write(tmp_path, *forms, claim)
    for file in files:
        CASE.prove([file], recorded=True)
    for i, wrong in ((0, {"contexts": 24}), (1, {"names": claim["names"] + 1}), (0, {"bound": 0.5})):
        file = CASE.write(tmp_path, *forms, claim | wrong)[i]
        with pytest.raises(VerificationError, match="tells of another proof"):
            CASE.prove([file], recorded=True)
        CASE.prove([file])  # not asked for


def test_the_contexts_of_a_list_that_is_gone_cannot_be_counted_again(tmp_path: Path) -> None:
    claim = CASE.prove(CASE.write(tmp_path, "mlp", "mlp", {})).summary()
    case = Case()
    case.contexts = replace(CASE.contexts, list_missing=True)
    for contexts in (24, 26):
        files = case.write(tmp_path, "mlp", "mlp", claim | {"contexts": contexts})
        assert case.prove(files, recorded=True).list_missing
        with pytest.raises(VerificationError, match=r"tells of another proof .contexts"):
            CASE.prove(files, recorded=True)


def test_a_file_of_another_list_is_refused(tmp_path: Path) -> None:
    """Though its graph is the same."""
    case = Case()
    case.info = replace(INFO, list_name="others")
    files = case.write(tmp_path, "mlp", "mlp", {})
    case.prove(files)
    for file in files:
        with pytest.raises(VerificationError, match=r"of another model .list_name is 'others'"):
            CASE.prove([file])


def test_progress_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And gone in the end."""
    due = [chunk.tolist() for chunk in CASE.contexts.chunks()]
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    for terminal in (False, True):
        monkeypatch.setenv("FORCE_COLOR", "1" * terminal)
        found = [chunk.tolist() for chunk in chunks_with_progress(CASE.contexts)]
        assert found == due
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("verifying" in shown.err and "25 contexts" in shown.err) == terminal
        assert (shown.err == "") == (not terminal)
        assert shown.err.endswith("\x1b[2K") == terminal


CHECKS = [
    Check("folded in float64", 1e-10, 25, 2e-14, 1e-15, [0, 1], 2),
    Check("model.onnx", 1e-5, 25, 3e-6, 1e-7, [1, 4], 0),
]


def test_the_report_in_words_and_as_json() -> None:
    report = Report(25, 25, CHECKS, Certificate(1e-6, 1e-4), SameNames(12_345, 1, 1e-6), "abcd")
    assert report.exhaustive
    assert report.largest == 3e-6
    line = "verified on all 25 contexts, largest deviation 3.0e-06"
    assert report.describe() == f"{line}, 12,345 names the same"
    assert replace(report, names=None).describe() == line
    partly = replace(report, total=10**6, names=None, list_missing=True)
    assert not partly.exhaustive
    which = "25 of 1,000,000 contexts (random ones: the list is gone or has changed)"
    assert partly.describe() == f"verified on {which}, largest deviation 3.0e-06"
    summary = {"passed": True, "contexts": 25, "contexts_total": 25, "exhaustive": True}
    summary |= {"largest_deviation": 3e-6, "bound": 1e-4, "names": 12_345}
    assert report.summary() == summary
    assert report.to_json().startswith('{\n  "passed": true,')
    assert '"context_text": "·a"' in report.to_json()  # not escaped
    stored = json.loads(report.to_json())
    assert stored | summary == stored
    assert stored["certificate"] == {"weights": 1e-6, "total": 1e-4}
    assert stored["sampler"] == {"names": 12_345, "borderline": 1, "log_prob": 1e-6}
    assert [check["context_text"] for check in stored["checks"]] == ["·a", "ad"]
    assert stored["checks"][1]["largest"] == 3e-6
    assert stored["list_missing"] is False
    without = replace(report, names=None, certificate=None)
    assert (without.summary()["bound"], without.summary()["names"]) == (None, 0)
    stored = json.loads(without.to_json())
    assert (stored["certificate"], stored["sampler"]) == (None, None)
    labelled = replace(report, checks=[replace(CHECKS[0], context=[6, 0, 1])], labels=["F", "M"])
    assert json.loads(labelled.to_json())["checks"][0]["context_text"] == "M: ·a"
