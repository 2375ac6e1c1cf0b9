"""The documentation's site: what is gathered for it, and the check of what was built. All without Sphinx."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers import BLOCK, ROOT, RunCommand

import makemore_pl
from makemore_pl.cli import COMMANDS

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "site"))

import assemble  # noqa: E402
import check  # noqa: E402
import tour  # noqa: E402

API = (DOCS / "api.md").read_text(encoding="utf-8")
DOCUMENTED = re.findall(r"^\.\. auto(?:class|function):: (makemore_pl[\w.]+)$", API, re.MULTILINE)
IMPORT = re.compile(r"^from (makemore_pl[\w.]*) import (.+)$", re.MULTILINE)


def imported_in(page: str) -> set[str]:
    """Names of this package that a page's Python imports."""
    code = "\n".join(block["code"] for block in BLOCK.finditer(page) if block["language"] == "python")
    return {f"{module}.{name.strip()}" for module, names in IMPORT.findall(code) for name in names.split(",")}


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project with a README, a page, and an index of pages."""
    for name, folder in (("ROOT", tmp_path), ("DOCS", tmp_path / "docs")):
        monkeypatch.setattr(assemble, name, folder)
    (tmp_path / "docs").mkdir()
    (tmp_path / "made.py").write_text("x = 1\n")
    for name in assemble.AT_THE_ROOT:
        (tmp_path / name).write_text(f"# {name}\n")
    readme = "# P\n\n[p](docs/page.md#deep) [q](#python)\n\n## Your own list\n\n## Python\n\n[s](made.py)\n"
    (tmp_path / "README.md").write_text(readme)
    index = f"# Docs\n\n{assemble.README_HERE}\n\n## First\n\n* [Page](page.md): it\n"
    (tmp_path / "docs" / "index.md").write_text(index)
    (tmp_path / "docs" / "page.md").write_text(
        "# Page\n\n## Deep\n\n[r](../README.md#python) [c](../SECURITY.md)\n"
    )
    return tmp_path


def test_every_page_stands_in_the_sidebar_once() -> None:
    site = assemble.Site()
    pages = [page for section in site.sections() for page in section.pages]
    assert sorted([*pages, "index"]) == sorted(site.text)


def test_a_page_that_is_not_listed_is_taken_up(docs: Path) -> None:
    (docs / "docs" / "new.md").write_text("# New\n")
    sections = assemble.Site().sections()
    assert sections[0] == ("First", ["page"])
    assert sections[-1].title == assemble.REST
    assert "new" in sections[-1].pages


def test_links_of_a_code_host_become_links_of_the_site(docs: Path) -> None:
    site = assemble.Site()
    assert "[p](page.md#deep) [q](using.md#python)" in site.turned("index")
    assert "[r](using.md#python) [c](security.md)" in site.turned("page")
    assert "[s](source:made.py)" in site.turned("using")
    assert site.sources == {docs / "made.py"}


@pytest.mark.parametrize("link", ["nowhere.md", "../made.py/nothing", "../docs"])
def test_a_link_that_leads_nowhere_is_an_error(docs: Path, link: str) -> None:
    (docs / "docs" / "page.md").write_text(f"[x]({link})\n")
    with pytest.raises(ValueError, match=re.escape(link)):
        assemble.Site().turned("page")


def test_all_links_of_all_pages_are_turned() -> None:
    site = assemble.Site()
    for page in site.text:
        without_code = assemble.FENCE.sub("", site.turned(page))
        assert "](../" not in without_code, page
    assert all(file.is_file() for file in site.sources)


def test_the_command_reference_is_what_the_commands_print(
    makemore: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(assemble.COLUMNS))
    shown = assemble.command_help()
    for command in COMMANDS:
        assert f"## makemore {command}\n\n```text\n{makemore(command, '--help').out.rstrip()}\n```" in shown
    assert assemble.HELP_HERE in (DOCS / "commands.md").read_text(encoding="utf-8")
    assert max(map(len, shown.splitlines())) <= assemble.COLUMNS


def test_the_api_page_names_all_that_is_public() -> None:
    """What the package exports, and what README and docs import."""
    public = {f"makemore_pl.{name}" for name in makemore_pl.__all__ if name != "__version__"}
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        public |= imported_in(page.read_text(encoding="utf-8"))
    assert len(public) > 15
    assert public - set(DOCUMENTED) - {"makemore_pl.Sampler", "makemore_pl.Scorer"} == set()
    assert {"makemore_pl.Sampler", "makemore_pl.Scorer"} <= set(DOCUMENTED)
    assert ".. automodule:: makemore_pl.errors" in API


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_name_of_the_api_page_exists_and_is_explained(name: str) -> None:
    module, _, last = name.rpartition(".")
    found = getattr(import_module(module), last)
    assert found.__doc__
    assert not found.__doc__.startswith(f"{last}(")  # made by `dataclass`, in place of a docstring


def test_the_tour_is_cut_into_cells_without_loss() -> None:
    parts = []
    for kind, source in tour.cells(text := tour.TOUR.read_text(encoding="utf-8")):
        code = f"bash\n{source[7:]}" if source.startswith("%%bash\n") else f"python\n{source}"
        parts.append(source if kind == "markdown" else f"```{code}\n```")
    assert "\n\n".join(parts) + "\n" == text


def far_figures(prose: str, printed: str) -> set[str]:
    """Figures of the tour, with four digits, from which no printed number is as near as the tour says."""
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", printed)]
    figures = set(re.findall(r"(?<![\w.])\d+\.\d{4}(?!\d)", prose))
    assert len(figures) > 15
    return {x for x in figures if min(abs(float(x) - number) for number in numbers) > 0.003}


def test_the_tour_was_run_as_it_stands() -> None:
    """Every block has its output, and every figure of the text is in one, give or take the processor."""
    text = tour.TOUR.read_text(encoding="utf-8")
    printed = "\n".join(tour.outputs_of(text, tour.stored_outputs()))
    assert "\x1b" not in printed
    prose = "\n".join(cell.source for cell in tour.cells(text) if cell.kind == "markdown")
    assert "up to 0.003 from the figures here" in prose
    assert far_figures(prose, printed) == set()
    assert far_figures(prose + " 1.2345", printed) == {"1.2345"}


def test_a_block_that_has_changed_since_it_was_run_is_found() -> None:
    text = "```python\nprint(1)\n```\n"
    assert tour.outputs_of(text, {"print(1)": "1\n"}) == ["1\n"]
    with pytest.raises(ValueError, match="not run yet"):
        tour.outputs_of(text.replace("1", "2"), {"print(1)": "1\n"})


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("<script src='https://elsewhere.example/x.js'></script>", "loads https://elsewhere.example/x.js"),
        ("<link rel=stylesheet href='//elsewhere.example/x.css'>", "loads //elsewhere.example/x.css"),
        ("<img srcset='a.html 1x, http://elsewhere.example/y 2x'>", "loads http://elsewhere.example/y"),
        ("<p style='background: url(http://elsewhere.example/z)'>", "loads http://elsewhere.example/z"),
        ("<a href='b.html'>", "links to b.html, which is no file"),
        ("<img src='b.png'>", "links to b.png, which is no file"),
        ("<a href='a.html#there'>", "but there is no such place"),
    ],
)
def test_a_fault_of_a_built_site_is_found(tmp_path: Path, inside: str, said: str) -> None:
    (tmp_path / "a.html").write_text("<p id=here>")
    fine = "<a href='a.html#here'><a href='https://example.org'><img src='data:,'><a href='#me' id=me>"
    (tmp_path / "page.html").write_text(fine)
    assert check.faults(tmp_path) == []
    check.page_at.cache_clear()
    (tmp_path / "page.html").write_text(fine + inside)
    [fault] = check.faults(tmp_path)
    assert said in fault
    assert fault.startswith("page.html")


def test_a_font_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text(
        "@font-face { src: url('https://elsewhere.example/f') } p { background: url(a) }"
    )
    assert check.faults(tmp_path) == ["x.css loads https://elsewhere.example/f"]
