"""Functions from tables to tables: every kind of table, and rows that depend on nothing else."""

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from helpers import BLOCK, LETTERS, ROOT, in_a_process

from makemore_pl import Sampler, Scorer
from makemore_pl.errors import DataError, MissingPackageError, ModelFileError, RequestError
from makemore_pl.tables.name_table import NameTable
from makemore_pl.tables.score_table import SCORE_COLUMNS, ScoreTable

TABLE = pa.table(
    {"id": [7, 8, 9, 10], "name": ["emma", None, "zoë", ""], "more": [{"x": 1.5}, None, None, {"x": 2}]}
)
FLAT = TABLE.drop_columns("more")


def batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    return iter(table.to_batches(max_chunksize=3))


KINDS: dict[str, tuple[Callable[[pa.Table], Any], Callable[[Any], pa.Table]]] = {
    "Table": (lambda table: table, lambda table: table),
    "RecordBatch": (lambda table: table.to_batches()[0], lambda batch: pa.Table.from_batches([batch])),
    "RecordBatchReader": (lambda table: table.to_reader(3), lambda reader: reader.read_all()),
    "iterator of batches, as of Spark": (batches, pa.Table.from_batches),
    "pandas": (lambda table: table.to_pandas().set_index([[4, 4, 2, 1]]), lambda f: pa.Table.from_pandas(f)),
    "Polars": (pl.DataFrame, lambda frame: frame.to_arrow()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_comes_back_with_scores(run_folder: Path, kind: str) -> None:
    to_kind, to_table = KINDS[kind]
    given = to_kind(FLAT)
    result = pickle.loads(pickle.dumps(ScoreTable(run_folder)))(given)
    if kind != "iterator of batches, as of Spark":
        assert type(result) is type(given)
    table = to_table(result)
    scores = Scorer(run_folder).columns(["emma", None, "zoë", ""])
    assert table.column_names[:6] == [*FLAT.column_names, *SCORE_COLUMNS]
    assert [table[name].to_pylist() for name in FLAT.column_names] == list(FLAT.to_pydict().values())
    for name in SCORE_COLUMNS:
        expected = [None if value != value else value for value in getattr(scores, name).tolist()]
        assert [None if value != value else value for value in table[name].to_pylist()] == expected
    if kind == "pandas":
        assert list(result.index) == list(given.index)


def test_other_columns_are_as_they_were(run_folder: Path) -> None:
    table = TABLE.replace_schema_metadata({"kept": "yes"})
    result = ScoreTable(run_folder)(table)
    assert result.select(TABLE.column_names).equals(table)
    assert result.schema.metadata == {b"kept": b"yes"}


def test_any_rows_can_be_made_again_alone(run_folder: Path) -> None:
    """By row number or by id, here or in another process, whatever else is in the table."""
    names = NameTable(run_folder, "row", key="k", suffix="a")
    table = names.rows(0, 2_000)
    assert table["name"].to_pylist() == Sampler(run_folder).for_ids(
        list(map(str, range(2_000))), key="k", suffix="a"
    )
    assert names.rows(1_234, 1_240).equals(table.slice(1_234, 6))
    assert names.rows(5, 5).num_rows == 0
    assert names.rows(2**62, 2**62 + 2).num_rows == 2
    shuffled = pl.DataFrame({"row": [3, None, 1_999, 3]})
    copy = pickle.loads(pickle.dumps(names))
    first, *_, last = (table["name"][i].as_py() for i in (3, 1_999))
    assert copy(shuffled)["name"].to_list() == [first, None, last, first]
    assert names(pd.DataFrame({"row": ["3", None]}, dtype="str"))["name"].tolist()[0] == first
    assert NameTable(run_folder, "row", suffix="a").rows(0, 50) != table.slice(0, 50)
    code = (
        "import pickle, sys; names = pickle.load(sys.stdin.buffer)\n"
        "sys.stdout.buffer.write(pickle.dumps(names.rows(1000, 1100)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=pickle.dumps(names), capture_output=True, cwd=ROOT)
    assert pickle.loads(done.stdout).equals(table.slice(1_000, 100)), done.stderr


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (pa.table({"nom": ["a"]}), RequestError, "table: no column 'name'; there are nom"),
        (pa.table([["a"], ["b"]], ["name", "name"]), RequestError, "several columns 'name'"),
        (
            pa.table({"name": ["a"], "log_prob": [1.0]}),
            RequestError,
            "column 'log_prob' is in the table already",
        ),
        (pa.table({"name": [1]}), DataError, "expected texts, found int64"),
        (pa.table({"name": [1]}).to_reader(), DataError, "expected texts, found int64"),
        ({"name": ["a"]}, RequestError, "expected an Arrow table or a data frame, found dict"),
        (["anna"], RequestError, "expected an Arrow table or a data frame, found list"),
    ],
)
def test_tables_that_are_refused(run_folder: Path, table: Any, error: type[Exception], message: str) -> None:
    score = ScoreTable(run_folder)
    with pytest.raises(error, match=message):
        score(table).read_all()  # a stream is read when it is asked for


def test_ids_that_are_refused(run_folder: Path) -> None:
    names = NameTable(run_folder)
    with pytest.raises(DataError, match="ids: expected texts or whole numbers, found double"):
        names(pa.table({"id": [1.0]}))
    with pytest.raises(RequestError, match="temperature must be at least 0"):
        NameTable(run_folder, temperature=-1)


def test_another_model_in_its_place_is_no_answer(run_folder: Path, tmp_path: Path) -> None:
    """Half of a table would have scores of one model, and half of another's."""
    file = tmp_path / "model.onnx"
    shutil.copy(run_folder / "model.onnx", file)
    score = ScoreTable(file)
    assert score(FLAT).num_rows == 4
    export_id = Scorer(file).info.export_id
    file.write_bytes(file.read_bytes().replace(export_id.encode(), export_id[::-1].encode()))
    with pytest.raises(ModelFileError, match="another model than the one that this function was made with"):
        score(FLAT)


def test_without_pyarrow(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingPackageError, match=r"needs the package pyarrow: pip install 'makemore-pl\[columns\]'"
    ):
        ScoreTable(run_folder)
    with pytest.raises(MissingPackageError, match="pyarrow"):
        Scorer(run_folder).log_probs(pl.Series(["anna"]))


def write_parts(folder: Path, n_parts: int, n_rows: int) -> None:
    """Files of names that the model draws itself, numbered."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    letters = np.array(list(LETTERS))
    for part in range(n_parts):
        names = ["".join(rng.choice(letters, size)) for size in rng.integers(2, 9, n_rows)]
        numbers = range(part * n_rows, (part + 1) * n_rows)
        parquet.write_table(pa.table({"row": numbers, "name": names}), folder / f"{part:02}.parquet")


@pytest.mark.slow
def test_dask_loses_and_doubles_no_row_where_a_worker_is_killed(run_folder: Path, tmp_path: Path) -> None:
    write_parts(tmp_path / "names", 24, 5_000)
    script = ROOT / "tests" / "tables" / "kill_a_worker.py"
    command = [sys.executable, script, run_folder, tmp_path / "names", tmp_path / "scored"]
    done = in_a_process(*command, cwd=ROOT, timeout=300).succeeds()
    assert 3 <= int(done.out) < 24  # in the middle
    names = parquet.read_table(tmp_path / "names")
    scored = parquet.read_table(tmp_path / "scored").sort_by("row")
    assert scored["row"].to_pylist() == list(range(24 * 5_000))
    assert scored["name"].to_pylist() == names["name"].to_pylist()
    expected = Scorer(run_folder).log_probs(names["name"])
    np.testing.assert_allclose(scored["log_prob"].to_numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_recipes_of_the_docs(run_folder: Path, tmp_path: Path) -> None:
    """Each block of Python on the page, as a program of its own: engines start processes that import it."""
    page = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")
    blocks = [
        block["code"] for block in BLOCK.finditer(page) if block["language"] == "python" and not block["mark"]
    ]
    assert len(blocks) >= 5
    shutil.copytree(run_folder, tmp_path / "checkpoints" / "mine")
    write_parts(tmp_path / "names", 3, 1_000)
    shutil.copy(tmp_path / "names" / "00.parquet", tmp_path / "names.parquet")
    for number, code in enumerate(blocks):
        program = tmp_path / f"recipe_{number}.py"
        program.write_text(code, encoding="utf-8")
        in_a_process(sys.executable, program, cwd=tmp_path, timeout=300).succeeds()
    outputs = [path for path in tmp_path.glob("scored*") if path.is_dir() or path.suffix == ".parquet"]
    assert len(outputs) >= 4
    for output in outputs:
        assert sorted(parquet.read_table(output)["row"].to_pylist()) == list(range(3_000)), output
