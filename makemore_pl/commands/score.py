"""`makemore score`: how likely the model finds given names."""

import math
from collections.abc import Iterable
from pathlib import Path

from makemore_pl.parsing.names_io import read_names, read_stdin, write_rows
from makemore_pl.parsing.runtime_parser import RuntimeParser
from makemore_pl.runtime.scorer import Score, Scorer

COLUMNS = ("name", "log_prob", "per_character", "perplexity", "unknown")
OF_LABELS = ("label", "label_probability")


def run(command: str, args: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = RuntimeParser(
        command,
        "Log-likelihood (nats), the same per character, and perplexity of names.",
        ("text", "json", "csv"),
    )
    file_help = "names, one per line; - for standard input (default: -)"
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help=file_help)
    parser.add_argument("--sort", action="store_true", help="strangest first; without it, in the order read")
    label_help = "of the names; if left out, the likeliest label of each is told, and how likely it is"
    parser.add_argument("--label", metavar="LABEL", help=label_help)
    options = parser.parse_args(args)
    model, file = options.model, options.file
    if file == "-" and model is not None and model.suffix != ".onnx" and not model.is_dir():
        model, file = None, model  # `makemore score names.txt`: one argument only, which is the names
    scorer = Scorer(model, label=options.label)
    columns = COLUMNS + OF_LABELS if scorer.info.labels else COLUMNS
    scores: Iterable[Score] = scorer.stream(read_stdin() if file == "-" else read_names(Path(file)))
    if options.sort:
        scores = sorted(scores, key=lambda s: -math.inf if s.per_character is None else s.per_character)
    if options.format == "text":
        _print_table(scores)
    else:
        write_rows(options.format, columns, ([getattr(s, column) for column in columns] for s in scores))
    return 0


def _print_table(scores: Iterable[Score]) -> None:
    print(f"{'log_prob':>10} {'per char':>10} {'perplexity':>10}  name")
    for s in scores:
        if s.log_prob is None:
            print(f"{'-':>10} {'-':>10} {'-':>10}  {s.name}  (unknown: {s.unknown})")
        else:
            guess = "" if s.label_probability is None else f"  {s.label} {s.label_probability:.3f}"
            print(f"{s.log_prob:10.4f} {s.per_character:10.4f} {s.perplexity:10.3f}  {s.name}{guess}")
