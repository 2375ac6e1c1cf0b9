"""The scripts that are run by hand."""

import random
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import ROOT, SCRIPTS, load

from makemore_pl.proof import contexts


def test_names_of_a_year_in_the_order_of_the_list() -> None:
    rows = [
        {"year": 2017.0, "sex": "M", "name": "Liam", "n": 9},
        {"year": 2017.0, "sex": "F", "name": "Ava", "n": 5},
        {"year": 2017.0, "sex": "F", "name": "Emma", "n": 7},
        {"year": 2016.0, "sex": "F", "name": "Old", "n": 99},
        {"year": 2017.0, "sex": "F", "name": "Abby", "n": 5},
    ]
    assert load("build_names").names_of_year(rows, 2017) == ["emma", "abby", "ava", "liam"]


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_every_script_has_a_help_text(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as end:
        load(script).main()
    assert end.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_measure_leaves_out_what_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("bench_inference")
    calls: list[int] = []
    seconds = bench.measure({"quick": calls.append}, repetitions=1, budget=1e9)
    assert set(seconds["quick"]) == set(bench.SIZES)
    assert set(calls) == set(bench.SIZES)
    seconds = bench.measure({"never": lambda n: None}, repetitions=1, budget=0)
    assert set(seconds["never"]) == {1}


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("soak")
    monkeypatch.setattr(module, "NAMES", 40)
    monkeypatch.setattr(contexts, "RANDOM_LOGITS", module.RANDOM_LOGITS)
    return module


def test_soak_counts_what_it_does(soak: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.soak(seed=7, seconds=1e9, turns=1, most_growth=500) == 0
    out = capsys.readouterr().out
    assert "no difference in" in out
    assert re.search(r"turns: +1\n", out)
    assert re.search(r"names sampled and scored: +40\n", out)


def test_soak_stops_at_a_difference_and_says_how_to_repeat_it(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Scorer that is off by a hundredth of a nat."""
    score = soak.Scorer.score

    def off(scorer: object, names: list[str]) -> list[Any]:
        return [replace(s, log_prob=s.log_prob + 0.01) for s in score(scorer, names)]

    monkeypatch.setattr(soak.Scorer, "score", off)
    assert soak.soak(seed=7, seconds=1e9, turns=9, most_growth=500) == 1
    out = capsys.readouterr().out
    assert "difference after 0 turns: DifferenceError" in out
    assert "repeat it: python scripts/soak.py --turns 1 --seed 7" in out


def test_soak_finds_other_names_and_memory_that_grows(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def turn(config: object, seed: int, folder: Path, done: Counter[str]) -> None:
        done["turns"] += 1

    monkeypatch.setattr(soak, "turn", turn)
    memory = iter([100.0, 700.0])
    monkeypatch.setattr(soak, "resident_mebibytes", lambda: next(memory))
    assert soak.soak(seed=0, seconds=1e9, turns=soak.WARM_UP + 1, most_growth=500) == 1
    assert "memory has grown by more than 500 MiB" in capsys.readouterr().out


def test_soak_draws_every_kind_of_configuration(soak: ModuleType) -> None:
    configs = [soak.random_config(random.Random(seed)) for seed in range(400)]
    assert {config.form for config in configs} == {"auto", "mlp", "fused", "table"}
    assert {config.network["batch_norm"] for config in configs} == {True, False}
    assert {config.network["norm_output"] for config in configs} == {True, False}
    assert {1, 2, 3, 4, 5} < {config.block_size for config in configs}
    assert max(config.block_size for config in configs) > 50
    assert any(len(set("".join(config.names))) > 255 for config in configs)
    assert any(ord(max("".join(config.names))) > 0xFFFF for config in configs)
    assert all(len(set(config.names)) >= 8 for config in configs)
    assert soak.random_config(random.Random(5)) == soak.random_config(random.Random(5))


def test_mutants_of_the_source_cover_the_proof_and_the_graph_by_tests_that_exist() -> None:
    tests: dict[str, list[str]] = load("mutate_source").TESTS
    for room in ("proof", "graph"):
        files = {f"{room}/{file.name}" for file in (ROOT / "makemore_pl" / room).glob("*.py")}
        assert files - {f"{room}/__init__.py"} <= tests.keys()
    assert all((ROOT / "makemore_pl" / file).is_file() for file in tests)
    assert all((ROOT / "tests" / test).is_file() for of_file in tests.values() for test in of_file)


@pytest.mark.parametrize("target", ["lists", "onnx"])
def test_fuzz_targets_accept_their_seeds(target: str) -> None:
    check, seeds = load("fuzz_inputs").TARGETS[target]
    for seed in [*seeds(), b"", b"\x00", b"\xff" * 20]:
        check(seed)


def test_fuzz_targets_find_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz = load("fuzz_inputs")
    with_external_data = list(fuzz.onnx_files())[3]
    monkeypatch.setattr("makemore_pl.exported.session.expect_data_inside", lambda content, path: None)
    with pytest.raises(AssertionError):
        fuzz.check_onnx(with_external_data)
    monkeypatch.setattr("makemore_pl.vocabulary.Vocabulary.decode", lambda self, tokens: "anna")
    with pytest.raises(AssertionError):
        fuzz.check_list(fuzz.LISTS[0])


def test_study_of_lists_sets_both_ways_side_by_side(
    list_of_all_letters: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = load("study_lists")
    monkeypatch.setattr(study, "ours", lambda file, folder: (2.5, 2.25))
    monkeypatch.setattr("sys.argv", ["study_lists", str(list_of_all_letters), "--steps", "40"])
    study.main()
    *_, row = capsys.readouterr().out.splitlines()
    name, _, v, decay, dev, test, *ours = row.strip("| ").split(" | ")
    ours, counted = ours[:2], [float(figure) for figure in ours[2:]]
    assert [name, v, decay, *ours] == [list_of_all_letters.stem, "27", "20", "2.5000", "2.2500"]
    assert len(counted) == 4
    assert all(1 < figure < 3 for figure in counted)
    assert 2 < float(dev) < 4
    assert 2 < float(test) < 4


def test_studies_of_weights_and_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Girls' names end with a, boys' with o: trigrams tell. So short a list is no ground for figures."""
    build = load("build_names")
    rows = [(f"{a}{b}{'a' if sex == 'F' else 'o'}", sex, 9) for sex in "FM" for a in "klmnp" for b in "iuye"]
    table = tmp_path / "table.csv"
    table.write_text(build.as_table(rows, header=True), encoding="utf-8")
    shared = [str(table), "--seeds", "42", "--steps", "60"]
    monkeypatch.setattr(sys, "argv", ["study_labels", *shared, "--weight", "count", "--label", "sex"])
    load("study_labels").main()
    out = capsys.readouterr().out
    without, with_labels = (float(x) for x in re.findall(r"dev NLL with\w* labels: +([\d.]+)", out))
    assert 1 < with_labels < 3
    assert 1 < without < 3
    assert re.search(r"naive Bayes, trigrams: +100.0%", out)
    monkeypatch.setattr(sys, "argv", ["study_weights", *shared, "--powers", "0", "1"])
    load("study_weights").main()
    *_, power_0, power_1 = capsys.readouterr().out.splitlines()
    assert power_0.split(" | ")[1:3] == power_1.split(" | ")[1:3]  # all counts are alike
