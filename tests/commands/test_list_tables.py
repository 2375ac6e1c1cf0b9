"""A table of names with counts and classes, from the command line to names."""

from pathlib import Path

import pytest
from helpers import QUICK, RunCommand, assert_one_line_error

ROWS = [
    (f"{a}{b}{'A' if sex == 'F' else 'O'}", sex, n)
    for n, a in enumerate("KLMNP", 1)
    for sex in "FM"
    for b in "IUYE"
]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "yob.txt"  # the Social Security Administration's layout
    file.write_text("".join(f"{name},{sex},{n}\r\n" for name, sex, n in ROWS), newline="")
    return file


def test_from_a_table_to_names(makemore: RunCommand, table: Path) -> None:
    columns = ["--data.name_column", 1, "--data.label_column", 2, "--data.weight_column", 3]
    result = makemore("fit", table, *columns, "--data.case", "title", *QUICK)
    assert result.code == 0, result.err
    assert "each name counted once" in result.out
    assert makemore("test", "checkpoints/yob").code == 0
    names = makemore("sample", "checkpoints/yob", "-n", 20, "--label", "M", "--seed", 1)
    assert names.code == 0, names.err
    assert len(names.out.splitlines()) == 20
    result = makemore("test", "checkpoints/yob", "--data.weighted_figures", "true")
    assert result.code == 0, result.err


def test_a_single_label(makemore: RunCommand, table: Path) -> None:
    table.write_text(table.read_text().replace(",M,", ",F,"))
    result = makemore("fit", table, "--data.label_column", 2, *QUICK)
    assert result.code == 0, result.err
    assert "labels: F " in result.out
    assert makemore("sample", "checkpoints/yob", "-n", 3).out.count("\n") == 3


def test_errors_of_tables_are_one_line(makemore: RunCommand, table: Path) -> None:
    for options, message in (
        (
            ["--data.weight_column", 2],
            "yob.txt, line 1: the weight must be a number from 0 to 1e+15, not 'F'",
        ),
        (["--data.name_column", "name"], "yob.txt, line 1: no column of the name 'name'"),
        (["--data.name_column", 4], "yob.txt, line 1: no column 4; there are 3"),
        (["--data.weight_power", 2], "weight_power must be from 0 to 1, not 2"),
    ):
        result = makemore("fit", table, *options)
        assert result.code == 2
        assert_one_line_error(result.err, message)
    assert [file.name for file in table.parent.iterdir()] == [table.name]
