"""The scripts that are run by hand."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def load(name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
