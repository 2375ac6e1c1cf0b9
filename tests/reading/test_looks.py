import re

import pytest

from makemore_pl.reading.looks import first_looks_like_title, looks_otherwise
from makemore_pl.reading.rows import Rows

SSA = [f"{name},{sex},{n}" for sex in "FM" for n, name in enumerate(["Mary", "Anna", "Jo", "Ada", "Eve"], 5)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (SSA, "table of 3 columns.* --data.name_column 1 --data.weight_column 3 --data.label_column 2$"),
        (["name,sex,count", *SSA], "table of 3 columns"),
        ([*SSA, "Mary,F", "Jo", "Ada,M", "Eve,M,5,and more"], "table of 3 columns"),
        (
            [f"{n}\t{name}" for n, name in enumerate("abcdefghij")],
            "name_column 2 --data.weight_column 1$",
        ),
        ([f'"{name}";' for name in "abcdefghij"], "table of 2 columns"),
        ([f"{name} {n}" for n, name in enumerate("abcdefghij")], "end with numbers"),
        (['["Anna",', '"Bo"]'], "JSON"),
        (["[", '"Anna",', '"Bo"', "]"], "JSON"),
        (['{"name": "Anna"}', '{"name": "Bo"}'], "JSON"),
        (["# names of 2017", "Anna", "Bo", "Cy"], "'# names of 2017' look like comments"),
        (["Anna", "// girls end here", "Bo", "Cy"], "comments"),
    ],
)
def test_what_is_no_list_of_names(names: list[str], message: str) -> None:
    assert re.search(message, looks_otherwise(names) or "")


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["Anna", "Bo"],
        ["O'Brien", "Jean-Luc", "St. John", "King, Jr.", "Anne Marie", "7up", "[sic]", "C#", "美咲"],
        [f"Number {n}" if n % 2 else "Anna" for n in range(20)],
        [str(n) for n in range(1900, 2000)],
        [f"#{tag}" for tag in "abcdefghij"],
        [f"Anna Maria {name}" for name in "abcdefghij"],
        ["Smith, Jo"] * 4,  # too few
    ],
)
def test_lists_of_names(names: list[str]) -> None:
    assert looks_otherwise(names) is None


def test_a_header_that_is_taken_for_a_name() -> None:
    """It is told by its name, or by a label that no other name has."""
    assert "'Name' is taken for a name" in (first_looks_like_title(Rows(["Name", "Anna", "Bo"])) or "")
    names = [*"abcdefghijkl"]
    assert first_looks_like_title(Rows(names, labels=["sex", *"FM" * 5, "F"]))
    for labels in (None, [*"FM" * 6], ["x", *"abcdefghijk"]):
        assert first_looks_like_title(Rows(names, labels=labels)) is None
