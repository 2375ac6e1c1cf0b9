"""The order of the package's rooms: imports point down, files are short, and no two share a name."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGE = ROOT / "makemore_pl"
FLOORS = (
    ("errors",),
    ("context_space", "files", "memory", "text", "vocabulary"),
    ("options",),
    ("exported",),
    ("wishes",),
    ("runtime",),
    ("scoring",),
    ("page", "reading"),
    ("data",),
    ("model",),
    ("graph",),
    ("inspect",),
    ("runs",),
    ("proof",),
    ("export",),
    ("studies",),
    ("report",),
    ("parsing",),
    ("tables",),
    ("service",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""The rooms from the ground up. A file imports from its own room and from rooms on lower floors alone."""
MAX_FILE, MAX_FOLDER = 300, 1_500
"""Lines."""

SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str | None:
    """`data` for makemore_pl.data.lists; None for another package, and for the face of this one."""
    package, _, inside = module.partition(".")
    return inside.partition(".")[0] or None if package == "makemore_pl" else None


def imported_rooms(source: str) -> Iterator[str]:
    """The rooms that a file imports from, wherever in it that stands."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (room for name in names if (room := room_of(name)) and room != "__version__")


def floor_of(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def rooms_out_of_order(room: str, source: str) -> list[str]:
    """Imports of a file in `room` that do not point down."""
    return [other for other in imported_rooms(source) if other != room and floor_of(other) >= floor_of(room)]


def test_imports_point_down() -> None:
    for file in SOURCES:
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":  # the package's face: hands on what users import
            assert rooms_out_of_order(room, file.read_text(encoding="utf-8")) == [], file


@pytest.mark.parametrize(
    "source",
    [
        "from makemore_pl.export.export import export_checkpoint",
        "import makemore_pl.runs.checkpoint",
        "from makemore_pl import commands",
        "def f():\n    from makemore_pl.studies import recipes",
    ],
)
def test_an_import_that_points_up_is_found(source: str) -> None:
    assert rooms_out_of_order("data", source)


def test_no_two_files_share_a_name() -> None:
    names = Counter(file.name for file in SOURCES if file.name != "__init__.py")
    assert [name for name, n in names.items() if n > 1] == []


def test_files_and_folders_are_short() -> None:
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in SOURCES}
    assert [file for file, n in lines.items() if n > MAX_FILE] == []
    folders = Counter[Path]()
    for file, n in lines.items():
        if file.parent != PACKAGE:
            folders[file.parent] += n
    assert [folder for folder, n in folders.items() if n > MAX_FOLDER] == []
