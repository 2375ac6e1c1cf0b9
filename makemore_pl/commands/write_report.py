"""`makemore report`: one HTML page about a checkpoint."""

from jsonargparse import ArgumentParser

from makemore_pl.parsing.training_parser import parse
from makemore_pl.report.page import write_report


def run(args: list[str]) -> None:
    """Write the page, and print where it is.

    Raises:
        MakemoreError: anything the user can fix.
    """
    parser = ArgumentParser(
        prog="makemore report",
        description="Write one HTML page that shows what a checkpoint has learned, and how.",
        exit_on_error=False,
    )
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
    print(write_report(options.checkpoint, options.output, names=options.list, seed=options.seed))
