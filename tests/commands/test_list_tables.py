"""A table of names with counts and classes, from the command line to names."""

from pathlib import Path

import pytest
from helpers import QUICK, RunCommand

ROWS = [
    (f"{a}{b}{'A' if sex == 'F' else 'O'}", sex, n)
    for n, a in enumerate("KLMNP", 1)
    for sex in "FM"
    for b in "IUYE"
]


@pytest.fixture
def table(cwd: Path) -> Path:
    file = cwd / "yob.txt"  # the Social Security Administration's layout
    file.write_text("".join(f"{name},{sex},{n}\r\n" for name, sex, n in ROWS), newline="")
    return file


def test_from_a_table_to_names(makemore: RunCommand, table: Path) -> None:
    columns = ["--data.name_column", 1, "--data.label_column", 2, "--data.weight_column", 3]
    result = makemore("fit", table, *columns, "--data.case", "title", *QUICK).succeeds()
    assert "each name counted once" in result.out
    makemore("test", "checkpoints/yob").succeeds()
    names = makemore("sample", "checkpoints/yob", "-n", 20, "--label", "M", "--seed", 1).succeeds()
    assert len(names.out.splitlines()) == 20
    makemore("test", "checkpoints/yob", "--data.weighted_figures", "true").succeeds()


def test_a_single_label(makemore: RunCommand, table: Path) -> None:
    table.write_text(table.read_text().replace(",M,", ",F,"))
    result = makemore("fit", table, "--data.label_column", 2, *QUICK).succeeds()
    assert "labels: F " in result.out
    assert makemore("sample", "checkpoints/yob", "-n", 3).out.count("\n") == 3
