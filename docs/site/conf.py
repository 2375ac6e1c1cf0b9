"""Sphinx's configuration. The pages come from assemble.py; `bash scripts/docs.sh` runs both."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from makemore_pl import __version__  # noqa: E402

project = "makemore_pl"
copyright = "the authors of makemore_pl, MIT licence"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]

# Pages. A link `source:FILE` leads to the page that shows that file.
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "source": "code/{{path}}.html"}
nb_execution_mode = "off"  # tour.py has run the tour's code
nb_mime_priority_overrides: list[Any] = []
highlight_language = "text"

# The API reference. A name in single backticks is code.
default_role = "code"
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
html_static_path = ["static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


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
