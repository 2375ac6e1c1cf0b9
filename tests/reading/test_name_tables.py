"""Tables as people have them. The oracle is the csv module, on the whole text at once."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.data.lists import find_list
from makemore_pl.errors import DataError
from makemore_pl.reading import lines, rows
from makemore_pl.reading.rows import Column, Columns
from makemore_pl.text import TextRules

Row = tuple[str, float | None, str | None]
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc", "Cf"])
CELL = st.text(CHARACTERS | st.sampled_from("\",;\t|' "), max_size=6)


def read(file: Path, *columns: Column, rules: TextRules = TextRules()) -> list[Row]:  # noqa: B008
    found: list[Row] = []
    for block in find_list(str(file), Columns(*columns), rules).blocks():
        n = len(block.names)
        found += zip(block.names, block.weights or [None] * n, block.labels or [None] * n, strict=True)
    return found


def written(folder: Path, content: str | bytes, name: str = "list.csv") -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("yob.txt", "Mary,F,7065\r\nJo,M,5\r\n"),  # the Social Security Administration's own layout
        ("list.csv", "\ufeffMary,F,7065\nJo,M,5"),
        ("list.csv", '"Mary","F","7065"\n\n,,\n "Jo" ,M,5\n'.replace(' "Jo" ', "Jo")),
        ("list.csv", "Mary;F;7065\nJo;M;5\n"),
        ("list.TSV", "Mary\tF\t7065\nJo\tM\t5\tand more\n"),
        ("list.txt", "Mary|F|7065.0\nJo|M| 5 \n"),
        ("excel.txt", "Mary\tF\t7065\r\nJo\tM\t5\r\n".encode("utf-16")),
    ],
)
def test_the_same_table_in_many_layouts(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(written(tmp_path, content, name), 1, 3, 2) == [("Mary", 7065, "F"), ("Jo", 5, "M")]


def test_columns_by_the_header_wherever_they_stand(tmp_path: Path) -> None:
    file = written(tmp_path, 'id,sex, "first, name",count\n1,F,"King, Jr.",2\n2,M,007,3\n'.replace(' "', '"'))
    assert read(file, "first, name", "count", "sex") == [("King, Jr.", 2, "F"), ("007", 3, "M")]
    assert read(file, 3, "count") == [("King, Jr.", 2, None), ("007", 3, None)]
    assert read(written(tmp_path, "name,n\nAnna,2\n,7\nBo,0\nCy,1e2\n"), None, "n") == [
        ("Anna", 2, None),  # names stand in the first column; a row without one, or of weight 0, is left out
        ("Cy", 100, None),
    ]


def test_titles_are_compared_as_they_look(tmp_path: Path) -> None:
    file = written(tmp_path, "pre\u0301nom,\u200bn ,2017\nAnna,2,x\n")
    assert read(file, "pr\u00e9nom", "n", "2017") == [("Anna", 2, "x")]
    assert read(file, "pr\u00e9nom", "n", 2017) == [("Anna", 2, "x")]  # what a command line makes of it
    assert read(file, 1, None, 2017) == [("Anna", None, "x")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_first_line_may_be_short(tmp_path: Path, encoding: str) -> None:
    content = ("\n" + "Anna;F;5\nJo;M;7\n" * 5).encode(encoding)
    assert read(written(tmp_path, content), 1, 3)[:2] == [("Anna", 5, None), ("Jo", 7, None)]
    [said] = find_list(str(written(tmp_path, content, "list.txt"))).news(0)
    assert "table of 3 columns" in said


def test_commas_inside_the_cells_of_other_tables(tmp_path: Path) -> None:
    assert read(written(tmp_path, "Doe, Mary\t5\nRoe, Jo\t7\n"), 1, 2) == [
        ("Doe, Mary", 5, None),
        ("Roe, Jo", 7, None),
    ]
    with pytest.raises(DataError, match=r"line 1: the weight .* not '1,5'"):  # and no name 'Anna;1'
        read(written(tmp_path, "Anna;1,5\nBo;2,5\n"), 1, 2)


def test_a_single_column_needs_no_option(tmp_path: Path) -> None:
    assert read(written(tmp_path, '"King, Jr."\nAnna\n')) == [("King, Jr.", None, None), ("Anna", None, None)]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("name,n\nAnna,2\n", (), r"line 1: a table of 2 columns \('name', 'n'\); .*data.name_column"),
        ("Anna\nBo,3\n", (), "list.csv, line 2: a table of 2 columns"),
        ("name,n\nAnna,2\n", ("nmae",), "line 1: no column of the name 'nmae'; .* is 'name', 'n'"),
        ("n,n\nAnna,2\n", ("n",), "2 columns of the name 'n'"),
        ("Anna,2\n", (3,), "no column 3; there are 2"),
        ("Anna,2\n", (0,), "no column 0; there are 2"),
        ("\nname,n\nAnna,2\nBo\n", ("name", "n"), "line 4: 1 column, and column 2 is needed"),
        ("Anna,2\nBo,x\n", (1, 2), "line 2: the weight must be a number from 0 to 1e[+]15, not 'x'"),
        ("name,n\nAnna,2\n", (1, 2), "line 1: the weight must be a number"),
        ("Anna,2\nBo,-1\n", (1, 2), "line 2: the weight .* not '-1'"),
        ("Anna,2\nBo,nan\n", (1, 2), "line 2: the weight .* not 'nan'"),
        ("Anna,2\nBo,inf\n", (1, 2), "line 2: the weight .* not 'inf'"),
        ('Anna,2\nBo,"7,065"\n', (1, 2), "line 2: the weight .* not '7,065'"),
        ("Anna,2\nBo,\n", (1, 2), "line 2: the weight .* not ''"),
        ("Anna,F\nBo, \n", (1, None, 2), "line 2: the label is empty"),
        ("Anna,F\nBo,\u200b\n", (1, None, 2), "line 2: the label is empty"),
        ("Anna,F\nB\0o,M\n", (1, None, 2), "line 2: a NUL"),
        ("Anna,2\r\n".encode("utf-16-le"), (1,), "line 1: a NUL .* UTF-16 without a byte order mark"),
        ('Anna,2\n"Bo,3\nCy,4\n', (1,), "line 4: a line end inside a name; is a quotation mark missing?"),
        ("Anna,2\nBo\rCy,3\n", (1,), "line 2: a carriage return inside a line; use LF or CRLF"),
        ("Anna,2\n" + "B" * 300 + ",3\n", (1,), "line 2: 300 characters"),
        ("\n,,\n", (1,), "list.csv: no names in it"),
        ("Anna,0\n", (1, 2), "list.csv: no names in it"),
        (b"Anna,2\n\xff,3\n", (1,), "line 2: not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(
    tmp_path: Path, content: str | bytes, columns: tuple[Column, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(written(tmp_path, content), *columns)


@given(
    st.lists(st.tuples(CELL, st.floats(0, 1e15), CELL.filter(str.strip)), min_size=1, max_size=30),
    st.sampled_from([",", "\t", ";"]),
    st.integers(1, 5),
)
def test_any_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, float, str]], separator: str, n: int
) -> None:
    """By the csv module, quoted as it must be; read in blocks of any size."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    plain = [("name", 1.5, "label")] * 100  # so that the separator can be told
    writer.writerows([("title", "weight", "class"), *plain, *table])
    file = written(tmp_path_factory.mktemp("tables"), text.getvalue(), "list.txt")
    expected = [(name.strip(), w, label.strip()) for name, w, label in table if name.strip() and w > 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", 4096 * n)
        patch.setattr(rows, "ROWS", n)
        found = read(file, "title", "weight", "class", rules=TextRules("none"))
    assert found == plain + expected


def parquet(folder: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "list.parquet", row_group_size=2)
    return folder / "list.parquet"


def test_parquet(tmp_path: Path) -> None:
    name, sex = pyarrow.array(["Mary", "Jo", None, " Zoe\u0308 "]), pyarrow.array(["F", "M", "F", "F"])
    table = parquet(tmp_path, sex=sex.dictionary_encode(), name=name, n=[7065, 5, 2, 1])
    expected = [("Mary", 7065, "F"), ("Jo", 5, "M"), ("Zoë", 1, "F")]
    assert read(table, "name", "n", "sex") == read(table, 2, 3, 1) == expected
    assert read(parquet(tmp_path, names=[1, 22])) == [("1", None, None), ("22", None, None)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((), "a table of 3 columns"),
        (("nmae",), "no column of the name 'nmae'"),
        (("name", "n"), "row 2: the weight must be a number .* not '-1'"),
        (("name", None, "sex"), "row 3: the label is empty"),
        (("raw",), "no column of the name 'raw'"),
    ],
)
def test_parquet_that_cannot_be_read(tmp_path: Path, columns: tuple[Column, ...], message: str) -> None:
    file = parquet(tmp_path, name=["a", "b", "c"], n=[1, -1, 2], sex=["F", "M", None])
    with pytest.raises(DataError, match=message):
        read(file, *columns)


def test_parquet_of_other_things(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1: text is expected, not bytes"):
        read(parquet(tmp_path, name=[b"\xff"]))
    with pytest.raises(DataError, match="not a Parquet file that can be read"):
        read(written(tmp_path, "Anna\n", "list.parquet"))


def test_without_pyarrow_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = parquet(tmp_path, name=["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs the package pyarrow: pip install 'makemore-pl\[tables\]'"):
        read(file)
