"""`makemore score`: how likely the model finds given names."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from makemore_pl.errors import DataError, RequestError
from makemore_pl.files import written_output
from makemore_pl.parsing.runtime_parser import RuntimeParser, model_or_newest
from makemore_pl.scoring.arrow import arrow
from makemore_pl.scoring.scorer import Scorer
from makemore_pl.tables.score_table import LABEL_COLUMNS, SCORE_COLUMNS
from makemore_pl.tables.table_files import NAME, form_of, read_table
from makemore_pl.tables.table_function import expect_columns, expect_label_source
from makemore_pl.tables.table_output import FORMS, as_list, text_output, write_table
from makemore_pl.tables.terminal_progress import with_progress


def run(command: str, args: list[str]) -> None:
    """Run the command."""
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
    parser.add_argument("--label-column", metavar="NAME", help="the label of each name in a table")
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
    expect_label_source(scorer.info, options.label, options.label_column)
    reads = [options.column or NAME, *([options.label_column] if options.label_column else [])]
    table = read_table(None if file == "-" else Path(file))
    batches = (batch.columns for batch in with_progress(table.batches, options.output))
    scored = map(partial(_with_scores, scorer, reads, str(file)), batches)
    with ExitStack() as stack:
        target = stack.enter_context(written_output(options.output)) if options.output else None
        _write(
            form,
            _strangest_first(scored) if options.sort else scored,
            options.column or NAME,
            target,
            table.schema,
        )


def _with_scores(
    scorer: Scorer, reads: Sequence[str], source: str, batch: Mapping[str, Any]
) -> dict[str, Any]:
    guesses = scorer.guesses_labels and len(reads) == 1
    new = SCORE_COLUMNS + LABEL_COLUMNS if guesses else SCORE_COLUMNS
    expect_columns(list(batch), reads, new, source)
    try:
        scores = scorer.columns(*(batch[column] for column in reads))
    except DataError as error:
        raise DataError(f"{source}, column {' or '.join(map(repr, reads))}: {error}") from error
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
    if LABEL_COLUMNS[1] in batch:
        guesses = zip(*(as_list(batch[name]) for name in LABEL_COLUMNS), strict=True)
    for (name, log_prob, per_character, perplexity, unknown), guess in zip(
        zip(*columns, strict=True), guesses, strict=False
    ):
        if log_prob is None:
            why = "no name"
            if name is not None:
                why = f"{name}  (unknown: {unknown})" if unknown else f"{name}  (no label)"
            text.write(f"{'-':>10} {'-':>10} {'-':>10}  {why}\n")
        else:
            shown = f"  {guess[0]} {guess[1]:.3f}" if guess else ""
            text.write(f"{log_prob:10.4f} {per_character:10.4f} {perplexity:10.3f}  {name}{shown}\n")
