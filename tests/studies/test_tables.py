from pathlib import Path

import pytest

from makemore_pl.errors import RequestError
from makemore_pl.studies.tables import Row, Table, comparison_table, figure, write_tables


def test_a_figure_is_within_up_to_its_tolerance() -> None:
    assert figure("x", 2.0, 2.25, 0.25).within
    assert not figure("x", 2.0, 2.2501, 0.25).within
    assert not figure("x", 2.0, 1.7499, 0.25).within
    assert not figure("x", 2.0, float("nan"), 0.25).within


def test_comparison_as_markdown() -> None:
    table = comparison_table(
        [
            ("S3", figure("parameters", 47_024, 47_024, 0, 0)),
            ("S2c", figure("dev", 2.1026783, 2.2, 1e-4, 7)),
            ("S4", Row("names", "crashed", "emma, [olivia]", True)),
            ("S4", Row("at the end", "not printed", "2.06")),
        ]
    )
    assert table.to_markdown().splitlines()[2:] == [
        "| S3 | parameters | 47,024 | 47,024 | 0 | 0 | yes |",
        "| S2c | dev | 2.1026783 | 2.2000000 | +9.7e-02 | 0.0001 | NO |",
        "| S4 | names | crashed | emma, [olivia] |  |  | yes |",
        "| S4 | at the end | not printed | 2.06 |  |  |  |",
    ]


def test_tables_are_put_into_their_places(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- one -->\nold\n<!-- end -->\n<!-- two -->\n<!-- end -->\nAfter.\n")
    tables = [Table("two", ["b"], [["\\2"]]), Table("one", ["a"], [["1"]])]
    for _ in range(2):  # a second time replaces the first
        write_tables(page, tables)
        assert page.read_text() == (
            "Before.\n<!-- one -->\n| a |\n| --- |\n| 1 |\n<!-- end -->\n"
            "<!-- two -->\n| b |\n| --- |\n| \\2 |\n<!-- end -->\nAfter.\n"
        )
    with pytest.raises(RequestError, match="no place for the table 'three'"):
        write_tables(page, [Table("three", [])])
