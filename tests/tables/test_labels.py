"""Tables of names that have labels: one label for all, one in each row, or the likeliest of each."""

import csv
import io
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers import RunCommand

from makemore_pl import Sampler, Scorer
from makemore_pl.errors import DataError, RequestError
from makemore_pl.tables.name_table import NameTable
from makemore_pl.tables.score_table import LABEL_COLUMNS, SCORE_COLUMNS, ScoreTable

NAMES = ["anna", None, "mia", "zo", "emma", "lena"]
KINDS = ["girl", "girl", "x, y", "böy", None, "x, y"]
TABLE = pa.table({"name": NAMES, "kind": KINDS, "id": [1, 2, 3, None, 5, 6]})


def expected(run: Path) -> list[float | None]:
    """Each row by itself, with the scorer of its label."""
    scores = []
    for name, kind in zip(NAMES, KINDS, strict=True):
        known = name is not None and kind is not None
        scores.append(Scorer(run, label=kind).score([name])[0].log_prob if known else None)
    return scores


@pytest.mark.parametrize(
    "labels",
    [
        KINDS,
        ["" if kind is None else kind for kind in KINDS],
        np.array(KINDS, dtype=object),
        pa.array(KINDS),
        pa.chunked_array([KINDS[:2], KINDS[2:]]).dictionary_encode(),
        pd.Series(KINDS),
        pl.Series(KINDS),
    ],
)
@pytest.mark.parametrize("names", [NAMES, pa.array(NAMES), pa.array(NAMES).dictionary_encode()])
def test_each_name_by_its_label(labelled_run: Path, names: object, labels: object) -> None:
    columns = Scorer(labelled_run).columns(names, labels)
    found = [None if value != value else value for value in columns.log_prob.tolist()]
    assert found == pytest.approx(expected(labelled_run), abs=1e-9)
    assert columns.per_character[0] == columns.log_prob[0] / 5
    assert columns.unknown.tolist() == ["", None, "", "oz", None, ""]
    assert set(columns.label) == {None}


def test_labels_that_are_refused(labelled_run: Path, run_folder: Path) -> None:
    scorer = Scorer(labelled_run)
    with pytest.raises(RequestError, match="label: 'boy' is none of böy, girl, x, y"):
        scorer.columns(["anna"], ["boy"])
    for labels in (["girl"], ["girl"] * 3, []):
        with pytest.raises(DataError, match=f"as many labels as names, 2, found {len(labels)}"):
            scorer.columns(["anna", "mia"], labels)
    with pytest.raises(RequestError, match="labels: several texts are needed, not the text 'girl'"):
        scorer.columns(["a", "b", "c", "d"], "girl")
    with pytest.raises(DataError, match="expected a text, found 1"):
        scorer.columns(["anna"], [1])
    with pytest.raises(RequestError, match="this scorer is for 'girl'"):
        Scorer(labelled_run, label="girl").columns(["anna"], ["girl"])
    for make in (ScoreTable, partial(NameTable, into="new")):
        with pytest.raises(RequestError, match="only one of them"):
            make(labelled_run, label="girl", label_column="kind")
        with pytest.raises(RequestError, match="have no labels, so none of 'kind'"):
            make(run_folder, label_column="kind")
        with pytest.raises(RequestError, match="table: no column 'kin'"):
            make(labelled_run, label_column="kin")(TABLE)
        for model, label, message in (
            (run_folder, "girl", "no labels"),
            (labelled_run, "boy", "'boy' is none of"),
        ):
            with pytest.raises(RequestError, match=message):
                make(model, label=label)(TABLE)
    with pytest.raises(DataError, match="labels: expected texts, found 1"):
        NameTable(labelled_run, into="new", label_column="id")(TABLE)


def test_tables_of_scores(labelled_run: Path) -> None:
    guessed = pickle.loads(pickle.dumps(ScoreTable(labelled_run)))(TABLE)
    assert guessed.column_names[3:] == [*SCORE_COLUMNS, *LABEL_COLUMNS]
    columns = Scorer(labelled_run).columns(NAMES)
    assert guessed["label"].to_pylist() == columns.label.tolist()
    assert guessed["label_probability"].to_pylist()[:1] == columns.label_probability.tolist()[:1]
    assert guessed["label_probability"].to_pylist()[1] is None
    stream = ScoreTable(labelled_run)(TABLE.to_reader(2))
    assert stream.read_all().combine_chunks().equals(guessed.combine_chunks())
    one = pickle.loads(pickle.dumps(ScoreTable(labelled_run, label="girl")))(TABLE)
    assert one.column_names[3:] == [*SCORE_COLUMNS]
    assert one["log_prob"][0].as_py() == Scorer(labelled_run, label="girl").columns(["anna"]).log_prob[0]
    each = ScoreTable(labelled_run, label_column="kind")(pl.DataFrame(TABLE))
    assert each["log_prob"].to_list() == pytest.approx(expected(labelled_run), abs=1e-9)


def test_tables_of_names(labelled_run: Path) -> None:
    """A row's name depends on its id and its label alone."""
    sampler = Sampler(labelled_run)
    names = NameTable(labelled_run, into="new", label_column="kind", suffix="a")
    found = pickle.loads(pickle.dumps(names))(TABLE)["new"].to_pylist()
    due = {i: sampler.for_ids([str(i)], label=kind, suffix="a")[0] for i, kind in ((1, "girl"), (3, "x, y"))}
    assert (found[0], found[2], found[3], found[4]) == (due[1], due[3], None, None)
    assert names(TABLE.take([2, 0]))["new"].to_pylist() == [due[3], due[1]]
    for wish in ({"label": "böy"}, {}):
        table = NameTable(labelled_run, **wish).rows(0, 50)
        assert table["name"].to_pylist() == sampler.for_ids(list(map(str, range(50))), **wish)


def test_score_files_with_a_column_of_labels(
    makemore: RunCommand, labelled_run: Path, run_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "names.csv"
    rows = zip(NAMES, KINDS, strict=True)
    with file.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text).writerows([("name", "kind"), *((n, k or "") for n, k in rows if n)])
    result = makemore("score", labelled_run, file, "--label-column", "kind", "--format", "csv").succeeds()
    found = [row["log_prob"] for row in csv.DictReader(io.StringIO(result.out))]
    due = [p for name, p in zip(NAMES, expected(labelled_run), strict=True) if name]
    assert [float(p) if p else None for p in found] == pytest.approx(due, abs=1e-6)
    assert "emma  (no label)" in makemore("score", labelled_run, file, "--label-column", "kind").out
    refused = makemore("score", run_folder, file, "--label-column", "kind").fails_with("have no labels")
    assert refused.out == ""
