"""Check a built site: nothing is loaded from elsewhere, and every link within it leads to a file and a place.

python docs/site/check.py FOLDER
"""

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("audio", "src"),
    ("embed", "src"),
    ("object", "data"),
    ("link", "href"),
}
"""Attributes that a browser follows by itself; but for `a`, what else a page names."""
IN_CSS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")


class Page(HTMLParser):
    """What one page loads, links to, and can be linked to at."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in LOADED:
                self.loaded.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")
            elif name == "srcset":
                self.loaded += [part.split()[0] for part in (value or "").split(",")]
            elif name == "style":
                self.loaded += styles(value or "")
            elif name == "id" or (tag, name) == ("a", "name"):
                self.places.add(value or "")


def styles(css: str) -> list[str]:
    """What a style sheet loads."""
    return [either or other for either, other in IN_CSS.findall(css)]


page_at = cache(Page)


def is_elsewhere(target: str) -> bool:
    """Recognise the address of another host. Data within the page is none."""
    return urlsplit(target).scheme not in ("", "data") or target.startswith("//")


def faults(site: Path) -> list[str]:
    """All that is wrong, a line each.

    Args:
        site: the folder that Sphinx has written.
    """
    found = []
    for file in sorted(site.rglob("*.css")):
        loaded = styles(file.read_text(encoding="utf-8"))
        found += [f"{file.relative_to(site)} loads {one}" for one in loaded if is_elsewhere(one)]
    for file in sorted(site.rglob("*.html")):
        page, name = page_at(file), file.relative_to(site)
        found += [f"{name} loads {target}" for target in page.loaded if is_elsewhere(target)]
        for target in {*page.links, *page.loaded}:
            parts = urlsplit(target)
            if is_elsewhere(target) or parts.scheme == "data":
                continue
            place = unquote(parts.fragment)
            to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not to.is_file():
                found.append(f"{name} links to {target}, which is no file")
            elif place and to.suffix == ".html" and place not in page_at(to).places:
                found.append(f"{name} links to {target}, but there is no such place in that page")
    return found


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]).resolve())
    sys.exit("\n".join(wrong) or 0)
