"""`scripts/reproduce.py`, in short."""

import shutil
from pathlib import Path
from typing import NoReturn

import pytest
from helpers import ROOT, Reproduce

from makemore_pl.errors import DataError
from makemore_pl.studies.tables import Row
from makemore_pl.studies.workbench import Workbench


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch) -> Reproduce:
    return Reproduce(monkeypatch)


@pytest.mark.slow
def test_some_systems_and_a_page(
    reproduce: Reproduce, makemore_names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "seeds.md"
    shutil.copy(ROOT / "docs" / "seeds.md", page)
    assert reproduce("--only", "S2c", "S5", "--max-steps", 20, "--folder", tmp_path, "--page", page) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no bar where nobody looks
    assert "within tolerance" in out
    assert "output.bias" in out
    text = page.read_text(encoding="utf-8")
    assert "| S2c | dev | 2.1026783 | " in text
    assert "| NO |" in text  # 20 steps are not 200,000
    assert "| S8 | parameters" not in text
    pictures = {picture.name for picture in (tmp_path / "seeds").iterdir()}
    assert pictures == {"activations.svg", "ladder.svg", "sweep.svg", "updates.svg"}
    assert all(f"(seeds/{picture})" in text for picture in pictures)
    assert reproduce("--only", "S2c", "--max-steps", 20, "--folder", tmp_path, "--fresh") == 0
    assert [file.name for file in tmp_path.glob("*.pt")] == ["S2c-20.pt"]


@pytest.mark.parametrize(("within", "code"), [(True, 0), (None, 0), (False, 1)])
def test_exit_code_says_whether_all_is_within(reproduce: Reproduce, within: bool | None, code: int) -> None:
    def study(bench: Workbench) -> list[Row]:
        return [Row("x", "1", "2", within)]

    reproduce.monkeypatch.setattr(reproduce.module, "STUDIES", {"S1": study})
    reproduce.monkeypatch.setattr(reproduce.module, "lecture_examples", dict)
    assert reproduce("--only", "S1") == code


def test_names_of_systems(reproduce: Reproduce, capsys: pytest.CaptureFixture[str]) -> None:
    select = reproduce.module.select
    assert select(["s2"]) == select(["S2"]) == ["S2a", "S2b", "S2c", "S2d", "S2e"]
    assert select(["S8", "s1", "S2C"]) == ["S1", "S2c", "S8"]
    assert select([])[0] == "S1"
    assert len(select([])) == 12
    for unknown in ("S9", "S", ""):
        assert reproduce("--only", unknown) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert f"no system {unknown!r}; there are S1, S2a" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-steps", 0], "--max-steps must be at least 1, not 0"),
        (["--page", "none.md"], "no file none.md"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_trained(
    reproduce: Reproduce, capsys: pytest.CaptureFixture[str], options: list[object], message: str
) -> None:
    def never() -> NoReturn:
        raise AssertionError("the list was asked for")

    reproduce.monkeypatch.setattr(reproduce.module, "lecture_examples", never)
    assert reproduce(*options) == 2
    assert message in capsys.readouterr().err


def test_stopped_and_without_a_list(reproduce: Reproduce, capsys: pytest.CaptureFixture[str]) -> None:
    def stop() -> NoReturn:
        raise KeyboardInterrupt

    reproduce.monkeypatch.setattr(reproduce.module, "lecture_examples", stop)
    assert reproduce() == 130
    assert "begins with the training that was stopped" in capsys.readouterr().err

    def no_list() -> NoReturn:
        raise DataError("the makemore list could not be downloaded")

    reproduce.monkeypatch.setattr(reproduce.module, "lecture_examples", no_list)
    assert reproduce() == 2
    assert capsys.readouterr() == ("", "reproduce.py: error: the makemore list could not be downloaded\n")


def test_the_page_on_record_is_whole() -> None:
    """Every system is on the page, nothing is out of tolerance, and its pictures are there."""
    page = (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")
    for system in ("S1", "S2a", "S2b", "S2c", "S2d", "S2e", "S3", "S4", "S5", "S6", "S7", "S8"):
        assert f"\n| {system} | " in page
    assert "| NO |" not in page
