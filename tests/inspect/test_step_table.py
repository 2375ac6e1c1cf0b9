"""The table of figures over steps: rows as they come, what a kill leaves, resuming, new columns, damage."""

from pathlib import Path

import pytest

from makemore_pl.errors import RequestError
from makemore_pl.inspect.step_table import StepTable, read_steps


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run" / "table.csv"


def test_rows_are_written_as_they_come_and_read_back(file: Path) -> None:
    table = StepTable(file)
    assert not file.exists()
    table.write(0, {"b": 1.5, "a": "2e-09"})
    assert read_steps(file) == [(0, {"b": 1.5, "a": 2e-9})]
    table.write(7, {"a": 3})
    table.write(7, {"b": 4})  # the same step
    assert file.read_text() == "step,b,a\n0,1.5,2e-09\n7,,3\n7,4,\n"
    assert read_steps(file)[1:] == [(7, {"a": 3.0}), (7, {"b": 4.0})]
    table.write(8, {"c": 5})  # measured from here on
    assert file.read_text() == "step,b,a,c\n0,1.5,2e-09,\n7,,3,\n7,4,,\n8,,,5\n"


def test_resuming_keeps_the_rows_before_its_first_step_and_drops_what_a_kill_cut_short(file: Path) -> None:
    file.parent.mkdir()
    before = "epoch,step,train/loss\r\n0,2,3.50\r\n0,12,3.0\r\n0,13,2.5\r\n0,1"
    file.write_text(before)
    table = StepTable(file, first_step=13)
    assert file.read_text() == before.replace("\r", "")  # untouched until there is a row
    table.write(13, {"val/nll": 2.1, "epoch": 0})
    assert file.read_text().splitlines() == [
        "epoch,step,train/loss,val/nll",
        "0,2,3.50,",
        "0,12,3.0,",
        "0,13,,2.1",
    ]
    StepTable(file, first_step=12).write(12, {"val/nll": 2.2})  # no new columns
    assert read_steps(file) == [(2, {"epoch": 0.0, "train/loss": 3.5}), (12, {"val/nll": 2.2})]


def test_no_file_has_no_rows_and_starting_replaces_what_is_there(file: Path) -> None:
    assert read_steps(file) == []
    StepTable(file, first_step=5).write(5, {"a": 1})
    assert read_steps(file) == [(5, {"a": 1})]
    file.write_text("step,a\n0,1\n")
    StepTable(file).write(0, {"a": 2})
    assert read_steps(file) == [(0, {"a": 2})]


@pytest.mark.parametrize(
    "content", [b"epoch,loss\n0,1\n", b"epoch,step\n0,all\n", b"step\n1,2,3\n", b"\xff\xfe\n\n", b"a\n\n1\n"]
)
def test_a_damaged_table_is_named_and_kept(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(RequestError, match=r"table\.csv: damaged"):
        StepTable(file, first_step=5)
    with pytest.raises(RequestError, match=r"table\.csv: damaged"):
        read_steps(file)
    assert file.read_bytes() == content


def test_a_figure_that_is_no_number_is_damage(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("step,loss\n0,low\n")
    with pytest.raises(RequestError, match="damaged"):
        read_steps(file)
