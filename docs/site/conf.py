"""Sphinx's configuration. The pages come from assemble.py; `bash scripts/docs.sh` runs both."""

import importlib
import inspect
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from docutils.nodes import Element, reference
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from makemore_pl import __version__  # noqa: E402

project = "makemore_pl"
copyright = "the authors of makemore_pl, MIT licence"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]

# Pages. A link `source:FILE` leads to the page that shows that file, `try:` to the page of the shipped model.
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "source": "code/{{path}}.html", "try": "try/{{path}}"}
exclude_patterns = ["extra"]
html_extra_path = [str(ROOT / "build" / "site-pages" / "extra")]
nb_execution_mode = "off"  # tour.py has run the tour's code
nb_mime_priority_overrides: list[Any] = []
highlight_language = "text"

# The API reference. What stands in single backticks is code, and a link where it names something on the page.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "training_step, validation_step"}
autodoc_inherit_docstrings = False  # Lightning's and PyTorch's texts stand in their own documentation
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
nitpicky = True
# Names of Python and of other libraries are in their own documentation, which a build does not load.
nitpick_ignore_regex = [(r"py:.*", r"(?!makemore_pl\.).*")]

html_theme = "furo"
html_title = "makemore_pl"
html_favicon = str(ROOT / "makemore_pl" / "page" / "static" / "icon.svg")
html_static_path = ["static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def explain_options(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Add what the command line's help says of each option, where a class declares options."""
    if what == "class" and is_dataclass(found):
        helps = [(f.name, f.metadata["help"]) for f in fields(found) if "help" in f.metadata]
        lines += ["", "Args:", *(f"    {option}: {text}" for option, text in helps)] if helps else []


def link_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element
) -> reference | None:
    """Link the name of a class or function without its module, if there is only one of that name."""
    domain = env.domains.python_domain
    places = {
        (entry.docname, entry.node_id): name
        for name, entry in domain.objects.items()
        if entry.objtype in ("class", "exception", "function") and name.endswith(f".{node['reftarget']}")
    }
    if node["reftype"] != "obj" or len(places) != 1:
        return None
    [name] = places.values()
    found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, shown)
    return found if isinstance(found, reference) else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", explain_options, priority=400)  # before napoleon reads it
    app.connect("missing-reference", link_by_last_name)


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """The page and line that show the code of a name on the API page."""
    if not info["module"]:
        return None
    found: Any = importlib.import_module(info["module"])
    for part in info["fullname"].split("."):
        found = getattr(found, part, None)
    if isinstance(found, property):
        found = found.fget
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return None
    found = inspect.unwrap(found)
    file = Path(inspect.getsourcefile(found) or "").resolve().relative_to(ROOT)
    _, line = inspect.getsourcelines(found)
    return f"code/{file}.html#line-{line}"
