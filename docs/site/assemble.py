"""Gather what the site is made of: the pages of docs/ and of the project's root, with their links turned.

    python docs/site/assemble.py FOLDER PAGE      PAGE: what makemore page has written, if it has

docs/*.md are written for a reader on a code host, where a link leads to a file of the repository. In FOLDER
they lie side by side, README's parts among them, and links to source files lead to pages that show these
files. docs/index.md is the list of all pages; the sidebar is made from it.
"""

import contextlib
import inspect
import io
import json
import os
import pkgutil
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import tour

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
AT_THE_ROOT = ("SECURITY.md", "CHANGELOG.md")
"""Pages beside README.md; docs/*.md are pages anyway."""
SPLIT = "## Your own list"
"""README's heading from which on it is the page `using`; what stands before begins the front page."""
USING = "# Using it\n\nFrom a list of names to names and files, then the code itself.\n\n"
README_HERE = "<!-- the site shows README's beginning in place of what stands above -->"
HELP_HERE = "<!-- the site shows what makemore COMMAND --help prints here -->"
FENCE = re.compile(r"^(```.*?^```|<!--.*?-->)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?(?=\))")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LISTED = re.compile(r"^\* \[.*?\]\((?P<target>[^)#]+)(?:#[^)]*)?\)", re.MULTILINE)
COLUMNS = 92
"""Of a command's help: what the site shows without scrolling."""
TRY_IT = """# Try it

The model of the shipped list makes these names in your browser. The page below is written by `makemore
page`, and can be [opened alone](try:index.html). It needs a web server, as `python -m http.server -d
build/site`: browsers refuse scripts of files.

```{raw} html
<iframe class="try" src="try/index.html" title="Made-up names" allow="clipboard-write"></iframe>
```
"""
DOCUMENTED = re.compile(r"^\.\. auto\w+:: (makemore_pl[\w.]+)$", re.MULTILINE)
"""A name on the page of the Python API."""
REST = "More"
"""The section of the sidebar that takes up pages which docs/index.md does not list."""


class Section(NamedTuple):
    """A part of the sidebar."""

    title: str
    pages: list[str]  # names of pages, without a suffix


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    titles = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def readme_parts(readme: str) -> tuple[str, str]:
    """README's beginning for the front page, and the rest as a page of its own."""
    start = readme.index(f"\n{SPLIT}\n")
    return readme[:start], USING + readme[start + 1 :]


def file_of(page: str) -> str:
    """The file that Sphinx reads for a page."""
    return f"{page}.ipynb" if page == "tour" else f"{page}.md"


class Site:
    """The pages, by their name in the site. Links to source files are noted while pages are turned.

    Args:
        extra: pages made by the build, by name, beside those that are files.
    """

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        self.origin = {file.stem: file for file in sorted(DOCS.glob("*.md"))}
        self.origin |= {Path(name).stem.lower(): ROOT / name for name in AT_THE_ROOT}
        self.text = {name: file.read_text(encoding="utf-8") for name, file in self.origin.items()}
        beginning, self.text["using"] = readme_parts((ROOT / "README.md").read_text(encoding="utf-8"))
        self.text["index"] = beginning + self.text["index"].partition(README_HERE)[2]
        self.origin |= {"using": ROOT / "README.md"}
        self.text |= extra or {}
        self.beginning = anchors(beginning)
        self.sources: set[Path] = set()

    def sections(self) -> list[Section]:
        """The sidebar: the sections of docs/index.md, and one for pages that it does not list.

        Pages of the build come first of all.
        """
        index = (DOCS / "index.md").read_text(encoding="utf-8")
        sections = []
        for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
            targets = [match["target"] for match in LISTED.finditer(part)]
            pages = [self.page_at((DOCS / target).resolve(), None) for target in targets]
            sections.append(Section(part.splitlines()[0], pages))
        sections[0].pages[:0] = sorted(self.text.keys() - self.origin)
        listed = {page for section in sections for page in section.pages}
        rest = sorted(set(self.text) - listed - {"index"})
        return [*sections, Section(REST, rest)] if rest else sections

    def page_at(self, file: Path, anchor: str | None) -> str:
        """The page that shows a file of the repository, or the part of it with that anchor.

        Raises:
            ValueError: no page does.
        """
        if file == ROOT / "README.md":
            return "index" if anchor in self.beginning else "using"
        for page, origin in self.origin.items():
            if origin == file:
                return page
        raise ValueError(f"{file.relative_to(ROOT)}: no page shows it")

    def turned(self, page: str) -> str:
        """A page's text with links that lead to pages of the site; code and comments are left alone.

        Raises:
            ValueError: a link leads nowhere.
        """
        base = self.origin[page].parent if page in self.origin else DOCS
        parts = FENCE.split(self.text[page])
        return "".join(
            part if FENCE.match(part) else LINK.sub(lambda link: self._turn(page, base, link), part)
            for part in parts
        )

    def _turn(self, page: str, base: Path, link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"]
        if re.match(r"[a-z]+:", target):
            return link[0]
        if page == "index" and not (target and (base / target).exists()):
            base, target = ROOT, target or "README.md"  # in README's part of the front page
        file = (base / target).resolve() if target else self.origin[page]
        if not file.is_file():
            raise ValueError(f"{page}: {target} leads to no file")
        end = f"#{anchor}" if anchor else ""
        if file.suffix == ".md":
            if file.parent not in (DOCS, ROOT):  # a README of a folder
                return f"{link['before']}{self._source(file)}"
            to = self.page_at(file, anchor) if anchor or file.name != "README.md" else "index"
            return f"{link['before']}{file_of(to)}{end}"
        if file.suffix in (".svg", ".png"):
            return f"{link['before']}{file.relative_to(DOCS)}"
        return f"{link['before']}{self._source(file)}"

    def _source(self, file: Path) -> str:
        self.sources.add(file)
        return f"source:{file.relative_to(ROOT)}"


def toctrees(sections: list[Section]) -> str:
    """The sidebar's sections for the front page, which shows them as its own list."""
    blocks = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"])
        for title, pages in sections
    ]
    return "\n\n" + "\n\n".join(blocks) + "\n"


def command_help() -> str:
    """A heading for each command, and below it what its --help prints."""
    from makemore_pl.cli import COMMANDS, main

    os.environ["COLUMNS"] = str(COLUMNS)
    parts = []
    for command in COMMANDS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([command, "--help"])
        parts.append(f"## makemore {command}\n\n```text\n{printed.getvalue().rstrip()}\n```\n")
    return "\n".join(parts)


def file_that_defines(name: str) -> Path:
    """The source file of a public class, function or module, wherever else it can be imported from."""
    found = pkgutil.resolve_name(name)
    return Path(inspect.getsourcefile(inspect.unwrap(found)) or "").resolve()


def source_page(file: Path) -> str:
    """A page that shows a source file, with a line's number as its anchor."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_for_filename

    code = file.read_text(encoding="utf-8")
    formatter = HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True)
    body = highlight(code, get_lexer_for_filename(file.name), formatter)
    title = file.relative_to(ROOT)
    return f"---\norphan: true\nnosearch: true\n---\n\n# {title}\n\n```{{raw}} html\n{body}\n```\n"


def assemble(folder: Path, try_it: Path) -> None:
    """Write the site's pages into a folder, which is emptied before.

    Args:
        folder: for Sphinx to read.
        try_it: what `makemore page` has written; where there is no such folder, the site has no page of it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("*.md", "site", "*.json"))
    extra = folder / "extra"  # Sphinx copies it as it is
    extra.mkdir()
    if try_it.is_dir():
        shutil.copytree(try_it, extra / "try")
    site = Site({"try_it": TRY_IT} if try_it.is_dir() else {})
    pages = {page: site.turned(page) for page in site.text}
    pages["index"] += toctrees(site.sections())
    pages["commands"] = pages["commands"].replace(HELP_HERE, command_help())
    book = tour.notebook(pages["tour"], tour.stored_outputs())
    pages["tour"] = json.dumps(book, indent=1, ensure_ascii=False)
    site.sources |= {file_that_defines(name) for name in DOCUMENTED.findall(pages["api"])}
    pages |= {f"code/{file.relative_to(ROOT)}": source_page(file) for file in site.sources}
    for page, text in pages.items():
        place = folder / file_of(page)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    assemble(Path(sys.argv[1]), Path(sys.argv[2]))
