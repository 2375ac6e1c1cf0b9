"""`makemore page`: a web page that makes names in its visitor's browser."""

import sys
from pathlib import Path

from makemore_pl.page.page_folder import write_page
from makemore_pl.parsing.runtime_parser import RuntimeParser, model_or_newest


def run(command: str, args: list[str]) -> None:
    """Run the command."""
    parser = RuntimeParser(command, "Write a web page that makes names in its visitor's browser.")
    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="FOLDER", required=True, help="the page's folder")
    add(
        "--runtime",
        type=Path,
        metavar="FOLDER",
        help="what scripts/web_runtime.sh has fetched: onnxruntime-web, to be copied into the page's folder; "
        "if left out, visitors load it from a CDN",
    )
    add("--overwrite", action="store_true", help="replace an earlier page in the folder; other files stay")
    options = parser.parse_args(args)
    print(write_page(model_or_newest(options.model), options.output, options.runtime, options.overwrite))
    print(
        f"makemore: see it at http://localhost:8000: python -m http.server -d {options.output}",
        file=sys.stderr,
    )
