"""`makemore score`: how likely the model finds given names."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from makemore_pl.columns.arrow import arrow
from makemore_pl.errors import DataError, RequestError
from makemore_pl.files import written_output
from makemore_pl.parsing.runtime_parser import RuntimeParser, model_or_newest
from makemore_pl.runtime.scorer import Scorer
from makemore_pl.tables.score_table import SCORE_COLUMNS
from makemore_pl.tables.table_files import NAME, form_of, read_table
from makemore_pl.tables.table_function import expect_columns
from makemore_pl.tables.table_output import FORMS, as_list, text_output, write_table
from makemore_pl.tables.terminal_progress import with_progress

OF_LABELS = ("label", "label_probability")


def run(command: str, args: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = RuntimeParser(
        command, "Log-likelihood (nats), the same per character, and perplexity of names.", FORMS
    )
    parser.set_defaults(format=None)
    file_help = (
        "names, one per line, or a table: .csv, .json, .jsonl, .parquet; - for standard input (default: -)"
    )
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help=file_help)
    parser.add_argument("--column", metavar="NAME", help=f"the names in a table (default: {NAME})")
    output_help = "write this file instead of standard output; its name tells the form, if --format does not"
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=output_help)
    parser.add_argument("--sort", action="store_true", help="strangest first; without it, in the order read")
    label_help = "of the names; if left out, the likeliest label of each is told, and how likely it is"
    parser.add_argument("--label", metavar="LABEL", help=label_help)
    options = parser.parse_intermixed_args(args)  # MODEL --sort FILE
    model, file = options.model, options.file
    if file == "-" and model is not None and model.suffix != ".onnx" and not model.is_dir():
        model, file = None, model  # `makemore score names.txt`: one argument only, which is the names
    form = options.format or form_of(options.output)
    if form == "parquet":
        arrow()  # before anything is read
        if options.output is None:
            raise RequestError("score: --format parquet needs --output FILE")
    scorer = Scorer(model_or_newest(model), label=options.label)
    table = read_table(None if file == "-" else Path(file))
    batches = (batch.columns for batch in with_progress(table.batches, options.output))
    scored = map(partial(_with_scores, scorer, options.column or NAME, str(file)), batches)
    with ExitStack() as stack:
        target = stack.enter_context(written_output(options.output)) if options.output else None
        _write(
            form,
            _strangest_first(scored) if options.sort else scored,
            options.column or NAME,
            target,
            table.schema,
        )
    return 0


def _with_scores(scorer: Scorer, column: str, source: str, batch: Mapping[str, Any]) -> dict[str, Any]:
    new = SCORE_COLUMNS + OF_LABELS if scorer.guesses_labels else SCORE_COLUMNS
    expect_columns(list(batch), column, new, source)
    try:
        scores = scorer.columns(batch[column])
    except DataError as error:
        raise DataError(f"{source}, column {column!r}: {error}") from error
    return {**batch, **{name: getattr(scores, name) for name in new}}


def _strangest_first(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All rows in one batch, sorted; those without a score come first."""
    parts = list(batches)
    per_character = np.concatenate([part["per_character"] for part in parts])
    order = np.argsort(np.where(np.isnan(per_character), -np.inf, per_character), kind="stable")
    yield {name: _take([part[name] for part in parts], order) for name in parts[0]}


def _take(parts: list[Any], order: Any) -> Any:
    """Values of a column that is in parts, in another order."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)[order]
    if isinstance(parts[0], list):
        values = [value for part in parts for value in part]
        return [values[i] for i in order.tolist()]
    return arrow().chunked_array(parts).unify_dictionaries().take(order)


def _write(
    form: str, batches: Iterator[dict[str, Any]], column: str, target: BinaryIO | None, schema: Any
) -> None:
    if form != "text":
        write_table(form, batches, target, schema)
        return
    first = next(batches)  # an error comes before the header
    with text_output(target) as text:
        text.write(f"{'log_prob':>10} {'per char':>10} {'perplexity':>10}  name\n")
        for batch in chain([first], batches):
            _print_lines({**batch, NAME: batch[column]}, text)


def _print_lines(batch: dict[str, Any], text: TextIO) -> None:
    columns = [as_list(batch[name]) for name in (NAME, *SCORE_COLUMNS)]
    guesses: Iterable[Any] = repeat(())
    if OF_LABELS[1] in batch:
        guesses = zip(*(as_list(batch[name]) for name in OF_LABELS), strict=True)
    for (name, log_prob, per_character, perplexity, unknown), guess in zip(
        zip(*columns, strict=True), guesses, strict=False
    ):
        if log_prob is None:
            why = "no name" if unknown is None else f"{name}  (unknown: {unknown})"
            text.write(f"{'-':>10} {'-':>10} {'-':>10}  {why}\n")
        else:
            shown = f"  {guess[0]} {guess[1]:.3f}" if guess else ""
            text.write(f"{log_prob:10.4f} {per_character:10.4f} {perplexity:10.3f}  {name}{shown}\n")
