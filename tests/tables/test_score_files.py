"""`makemore score` from file to file: every form in and out, nothing lost, errors of one line."""

import csv
import io
import json
import os
import pty
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from helpers import RunCommand, in_a_process
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from makemore_pl import Scorer
from makemore_pl.tables import table_files, terminal_progress
from makemore_pl.tables.score_table import SCORE_COLUMNS

NAMES = ["emma", "zoë", None, "a,b", 'x"y', "ava"]
FORMS = ("csv", "json", "jsonl", "parquet")


def write(file: Path, names: list[Any], column: str = "name") -> Path:
    """A table with a number and a note beside each name."""
    rows = [{"row": i, column: name, "note": f"ñ {i}"} for i, name in enumerate(names)]
    if file.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file, row_group_size=4)
    elif file.suffix == ".csv":
        with file.open("w", encoding="utf-8", newline="") as text:
            writer = csv.DictWriter(text, ["row", column, "note"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        text = "\n".join(lines) if file.suffix == ".jsonl" else "[" + ",\n".join(lines) + "]"
        file.write_text(text, encoding="utf-8")
    return file


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a table; numbers and nulls as CSV has them."""
    if file.suffix == ".parquet":
        rows = parquet.read_table(file).to_pylist()
    elif file.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    else:
        text = file.read_text(encoding="utf-8")
        rows = (
            json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        )
    return [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("target", FORMS)
def test_every_form_to_every_form(
    makemore: RunCommand,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    target: str,
) -> None:
    monkeypatch.setattr(table_files, "ROWS_AT_ONCE", 4)
    file = write(tmp_path / f"names.{source}", NAMES, "given")
    output = tmp_path / "new" / f"scored.{target}"
    result = makemore("score", run_folder, file, "--column", "given", "-o", output)
    assert (result.code, result.out, result.err) == (0, "", "")
    rows = read(output)
    scores = Scorer(run_folder).columns(NAMES)
    assert [list(row) for row in rows] == [["row", "given", "note", *SCORE_COLUMNS]] * len(NAMES)
    for i, (row, name) in enumerate(zip(rows, NAMES, strict=True)):
        assert (row["row"], row["given"], row["note"]) == (str(i), name or "", f"ñ {i}")
        for column in SCORE_COLUMNS[:3]:
            value = getattr(scores, column)[i]
            assert row[column] == ("" if value != value else str(float(value)))
        assert row["unknown"] == (scores.unknown[i] or "")
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_types_and_metadata_of_parquet_are_kept(
    makemore: RunCommand, run_folder: Path, tmp_path: Path
) -> None:
    table = pa.table(
        {
            "name": pa.array(["emma", "ava", "emma"]).dictionary_encode(),
            "day": pa.array([1, 2, None], pa.date32()),
            "list": [[1], [], None],
        }
    ).replace_schema_metadata({"kept": "yes"})
    parquet.write_table(table, tmp_path / "names.parquet")
    makemore("score", run_folder, tmp_path / "names.parquet", "-o", tmp_path / "out.parquet").succeeds()
    scored = parquet.read_table(tmp_path / "out.parquet")
    assert scored.select(table.column_names).cast(table.schema).equals(table)
    assert scored.schema.metadata[b"kept"] == b"yes"
    makemore("score", run_folder, tmp_path / "names.parquet", "-o", tmp_path / "out.csv", "--sort").succeeds()
    ranked = [(row["name"], row["day"]) for row in read(tmp_path / "out.csv")]
    strangest = sorted([s.per_character, s.name] for s in Scorer(run_folder).score(["emma", "ava"]))[0][1]
    days = {"emma": [("emma", "1970-01-02"), ("emma", "")], "ava": [("ava", "1970-01-03")]}
    assert ranked == days[strangest] + days["ava" if strangest == "emma" else "emma"]


def test_output_form_and_standard_output(makemore: RunCommand, run_folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "names.jsonl", NAMES)
    printed = makemore("score", run_folder, file, "--format", "csv").out
    assert makemore("score", run_folder, file, "--format", "csv", "-o", tmp_path / "out.dat").out == ""
    assert (tmp_path / "out.dat").read_text() == printed
    text = makemore("score", run_folder, file).out
    assert "(unknown: ë)" in text
    assert "no name" in text
    makemore("score", run_folder, file, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_text() == text
    makemore("score", run_folder, file, "--format", "parquet").fails_with(
        "--format parquet needs --output FILE"
    )


@pytest.mark.parametrize("form", FORMS)
def test_tables_without_rows(makemore: RunCommand, run_folder: Path, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"none.{form}"
    if form == "parquet":
        parquet.write_table(pa.table({"name": pa.array([], pa.string())}), file)
    else:
        file.write_text({"csv": "name\n", "json": "[]", "jsonl": ""}[form])
    assert makemore("score", run_folder, file, "--format", "csv").out == f"name,{','.join(SCORE_COLUMNS)}\n"
    makemore("score", run_folder, file, "-o", tmp_path / "out.parquet").succeeds()
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 0


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "no such column": ("x.csv", b"nom,age\nanna,7\n", "x.csv: no column 'name'; there are nom, age"),
    "taken column": ("x.csv", b"name,unknown\nanna,7\n", "the new column 'unknown' is in the table already"),
    "two of a name": ("x.csv", b"name,name\nanna,eva\n", "two columns have the same name"),
    "too few values": (
        "x.csv",
        b"name,age\nanna\n",
        "up to line 2: 1 values where 2 columns are named: 'anna'",
    ),
    "quote": ("x.csv", b'name\n"anna\n', "not CSV"),
    "empty": ("x.csv", b"", "the first line should name the columns"),
    "CSV that is not UTF-8": ("x.csv", b"name\n\xff\n", "x.csv: not UTF-8"),
    "cut JSON": ("x.json", b'[{"name": "anna"}', "cut off after 1 objects"),
    "cut object": ("x.json", b'[{"name": "anna"}, {"na', "after 1 objects: not JSON"),
    "no object": (
        "x.jsonl",
        b'{"name": "anna"}\n"eva"\n',
        "after 1 objects: expected an object, found 'eva'",
    ),
    "nested": ("x.json", b"[" * 100_000, "x.json"),
    "deep": ("x.json", b'{"a":' * 100_000, "x.json"),
    "number": ("x.jsonl", b'{"name": 5}\n', "x.jsonl, column 'name': expected a text, found 5 (int)"),
    "no Parquet": ("x.parquet", b"PAR1 but not really PAR1", "not a readable Parquet file"),
    "no file": ("", b"", "No such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_refused(makemore: RunCommand, run_folder: Path, tmp_path: Path, case: str) -> None:
    """One line, and an earlier output stays."""
    name, content, message = REFUSED[case]
    if name:
        (tmp_path / name).write_bytes(content)
    output = tmp_path / "out.parquet"
    output.write_text("precious")
    result = makemore("score", run_folder, tmp_path / (name or "missing.csv"), "-o", output)
    assert result.fails_with(message).out == ""
    assert output.read_text() == "precious"
    assert not list(tmp_path.glob(".*"))


def test_a_parquet_file_cut_in_the_middle(makemore: RunCommand, run_folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "names.parquet", ["anna"] * 20_000)
    content = bytearray(file.read_bytes())
    content[40:4_000] = bytes(3_960)
    file.write_bytes(content)
    makemore("score", run_folder, file, "-o", tmp_path / "out.csv").fails_with("names.parquet")
    assert not (tmp_path / "out.csv").exists()


def test_values_that_change_their_type(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "ROWS_AT_ONCE", 2)
    (tmp_path / "x.jsonl").write_text('{"name": "a", "k": 1}\n' * 2 + '{"name": "a", "k": "text"}\n')
    makemore("score", run_folder, tmp_path / "x.jsonl", "-o", tmp_path / "out.parquet").fails_with(
        "column 'k': values of several types"
    )
    (tmp_path / "x.jsonl").write_text('{"name": "a"}\n' * 2 + '{"name": "a", "k": "text"}\n')
    makemore("score", run_folder, tmp_path / "x.jsonl").fails_with("a key that the first 2 objects lack: 'k'")


@given(
    st.lists(
        st.dictionaries(st.text(max_size=3), st.none() | st.text() | st.lists(st.integers()), max_size=3)
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50)
def test_json_in_parts_of_any_size(rows: list[dict[str, Any]]) -> None:
    class Slow(io.StringIO):
        def read(self, size: int | None = None) -> str:
            return super().read(3)

    for text in (json.dumps(rows), json.dumps(rows, indent=2), "\n".join(map(json.dumps, rows))):
        assert list(table_files._json_objects(Slow(text), "source")) == rows


def test_plain_text_needs_no_pyarrow_and_a_table_says_that_it_does(run_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "names.csv", NAMES)
    write(tmp_path / "names.parquet", NAMES)
    hidden = "import sys; sys.modules['pyarrow'] = None; from makemore_pl.cli import main; main(sys.argv[1:])"
    run = partial(in_a_process, sys.executable, "-c", hidden, "score", run_folder)
    assert run(tmp_path / "names.csv", "--format", "jsonl", "--sort").out.count("\n") == len(NAMES)
    for args in ([tmp_path / "names.parquet"], [tmp_path / "names.csv", "-o", tmp_path / "out.parquet"]):
        run(*args).fails_with("needs the package pyarrow: pip install 'makemore-pl[columns]'")


def test_a_bar_on_a_terminal_and_nowhere_else(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal_progress, "SECONDS", -1.0)
    (tmp_path / "names.txt").write_text("emma\nava\n" * 100)
    score = partial(makemore, "score", run_folder, tmp_path / "names.txt", "--format", "csv", "-o")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as context:
        context.setattr(sys, "stderr", terminal)
        score(tmp_path / "a.csv").succeeds()
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "200 rows" in shown
    assert "%" in shown
    assert shown.endswith("\r\x1b[K")  # nothing is left of it
    quiet = score(tmp_path / "b.csv").succeeds()
    assert (quiet.out, quiet.err) == ("", "")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
