"""`makemore report`: one HTML page about a checkpoint."""

import sys

from makemore_pl.parsing.training_parser import new_parser, parse
from makemore_pl.report.page import write_report
from makemore_pl.report.sources import Material


def report(command: str, args: list[str]) -> None:
    """Write the page, print where it is, and on stderr what it leaves out."""
    parser = new_parser(command, "Write one HTML page that shows what a checkpoint has learned, and how.")
    add = parser.add_argument
    add("checkpoint", type=str, metavar="CKPT", help="a checkpoint of 'makemore fit'")
    add(
        "-o",
        "--output",
        type=str,
        metavar="FILE",
        help="the page; report.html beside the checkpoint if left out",
    )
    add(
        "--list", type=str, metavar="FILE", help="the training list, where it lies elsewhere than in training"
    )
    add("--seed", type=int, default=42, help="of the names that it makes up")
    options = parse(parser, args)
    material = Material(options.checkpoint, options.list)
    print(write_report(material, options.output, options.seed))
    for sentence in material.missing.values():
        print(f"makemore: left out of the report: {sentence}", file=sys.stderr)
