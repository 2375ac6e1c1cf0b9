"""README and docs: their commands and code are run, their links lead somewhere, the reading path is short."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from helpers import BLOCK, ROOT, RunCommand

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXPORTED_FILES = (ROOT / "docs" / "without_this_package.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES = 2_300
"""Of the files on the reading path together."""
NOT_ON_THE_PATH = {"filelock", "signal", "zipfile", "pickle", "resource"}
"""Modules for locks, signals, damaged files and memory limits, which have files of their own."""


@pytest.mark.slow
def test_commands_and_code(makemore: RunCommand, short_list: Path, cwd: Path) -> None:
    """In the order of the README, then of the page about the exported files."""
    # With all letters of the texts that README scores.
    names = short_list.read_text(encoding="utf-8") + "max\nanwar\nqasim\n"
    Path("mynames.txt").write_text(names, encoding="utf-8")
    Path("ids.txt").write_text("user 1\nuser 2\n", encoding="utf-8")
    ran = 0
    for block in BLOCK.finditer(README + EXPORTED_FILES):
        if block["language"] == "python":
            exec(compile(block["code"], "README.md", "exec"), {})
            ran += 1
            continue
        for line in block["code"].splitlines():
            program, *args = shlex.split(line)
            assert program == "makemore", line
            if block["mark"]:
                args.append("--print_config")  # what cannot be run here is still parsed
            makemore(*args).succeeds()
            ran += 1
    assert ran > 15


def test_the_worked_example_prints_the_numbers_of_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "start_here.md").read_text(encoding="utf-8")
    namespace: dict[str, object] = {}
    for block in BLOCK.finditer(page):
        exec(compile(block["code"], "start_here.md", "exec"), namespace)
    examples, _, merged = capsys.readouterr().out.partition("13 examples, 5 contexts\n")
    table = page[page.index("| anna |") : page.index("The loss is the mean")]
    assert re.findall(r"\S+ → \S", table) == examples.splitlines()
    for row in merged.splitlines():
        context, following = row.split(" ", 1)
        shown = ", ".join(f"{character} {weight:.0f}" for character, weight in ast.literal_eval(following))
        assert f"| {context} | {shown} |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, heading


def test_file_tree_names_every_room() -> None:
    tree = README[README.index("## Files") :]
    for folder in (ROOT / "makemore_pl").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"  {folder.name}/ " in tree


def test_configs_named_are_those_shipped() -> None:
    for config in (ROOT / "makemore_pl" / "configs").glob("*.yaml"):
        assert f"`{config.stem}`" in README[README.index("## Configuration") :]


def imports(source: str) -> set[str]:
    """Top-level names of the modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_reading_path_is_short_and_knows_nothing_of_locks_signals_and_damage() -> None:
    section = README[README.index("## The reading path") : README.index("## Files")]
    files = re.findall(r"^\| \d+ \| \[.*?\]\((makemore_pl/.*?\.py)\)", section, re.MULTILINE)
    sources = [(ROOT / file).read_text(encoding="utf-8") for file in files]
    assert len(sources) == 14
    assert sum(len(source.splitlines()) for source in sources) <= MOST_LINES
    assert f"at most {MOST_LINES:,} lines" in section
    for file, source in zip(files, sources, strict=True):
        assert not imports(source) & NOT_ON_THE_PATH, file


def test_an_import_of_a_lock_is_found() -> None:
    assert imports("def f():\n    from filelock import FileLock") & NOT_ON_THE_PATH
