"""The commands `sample`, `score` and `info`: options to function, results to text, JSON or CSV."""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TextIO

from makemore_pl.errors import DataError, RequestError
from makemore_pl.memory import file_size, require_memory
from makemore_pl.runtime.engines import open_engine, resolve_model
from makemore_pl.runtime.metadata import MAX_LENGTH, ModelInfo
from makemore_pl.runtime.sampler import Sampler, TooFewNamesError
from makemore_pl.runtime.scorer import Score, Scorer

FORMATS = ("text", "json", "csv")
NAME_BYTES_PER_BYTE = 40
"""Memory of a list and a set of short names, for each byte of their file."""
FEW_NAMES = 10_000
"""Up to so many names, opening a sampler takes longer than using it."""


class _Parser(argparse.ArgumentParser):
    """Errors as the program's own: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        shown = message if len(message) <= 300 else f"{message[:300]}…"
        raise RequestError(f"{self.prog.partition(' ')[2]}: {shown}")


def run(command: str, args: list[str]) -> int:
    """Run one of the runtime commands.

    Args:
        command: sample, score or info.
        args: its options.

    Returns:
        The exit code.
    """
    parser, function = {"sample": _sample_parser, "score": _score_parser, "info": _info_parser}[command]()
    return function(parser.parse_args(args))


_Command = tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], int]]


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"makemore {command}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    model_help = "ONNX file or an export's folder; the newest under checkpoints/ if left out"
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help=model_help)
    return parser


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=FORMATS, default="text", help="form of the output")


def _sample_parser() -> _Command:
    parser = _parser("sample", "Make up names with an exported model.")
    add = parser.add_argument
    add("-n", type=int, default=20, metavar="N", help="how many names")
    add("--seed", type=int, help="same seed, same names; a fresh one if left out")
    add(
        "--temperature",
        type=float,
        default=1.0,
        help="below 1 more usual names, above 1 stranger ones, 0 the likeliest",
    )
    add("--top-k", type=int, default=0, help="draw among the k likeliest characters only; 0: off")
    add(
        "--top-p",
        type=float,
        default=1.0,
        help="draw among the likeliest characters that together reach p; 1: off",
    )
    add("--prefix", default="", help="how every name starts")
    add("--min-length", type=int, default=1, help="fewest characters of a name")
    add(
        "--max-length",
        type=int,
        help="most characters, longer names are cut; twice the longest training name if left out",
    )
    add("--match", metavar="REGEX", help="only names in which this regular expression is found")
    add("--unique", action="store_true", help="no name twice")
    add("--novel", type=Path, metavar="FILE", help="no name that stands in this file, one per line")
    _add_format(parser)
    return parser, _sample


def _sample(args: argparse.Namespace) -> int:
    # A program that asks for a few names once would wait for the tables longer than for the names.
    sampler = Sampler(args.model, prepare=args.n > FEW_NAMES)
    batches = sampler.stream(
        args.n,
        seed=args.seed,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        prefix=args.prefix,
        min_length=args.min_length,
        max_length=args.max_length,
        unique=args.unique,
        novel=None if args.novel is None else _read_names(args.novel),
        match=args.match,
    )
    found = 0

    def rows() -> Iterator[tuple[str, float]]:
        nonlocal found
        for batch in batches:
            found += len(batch.names)
            yield from zip(batch.names, batch.log_probs, strict=True)

    if args.format == "text":
        for name, _ in rows():
            sys.stdout.write(name + "\n")
    else:
        _write_rows(args.format, ("name", "log_prob"), rows())
    if found < args.n:
        sys.stdout.flush()
        raise TooFewNamesError(args.n, found)
    return 0


def _score_parser() -> _Command:
    parser = _parser("score", "Log-likelihood (nats), per character, and perplexity of names, one per line.")
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="names, one per line; - for standard input"
    )
    parser.add_argument("--sort", action="store_true", help="strangest first; without it, in the order read")
    _add_format(parser)
    return parser, _score


def _score(args: argparse.Namespace) -> int:
    # With one argument only, it is the names: `makemore score names.txt` scores with the newest export.
    if (
        args.file == "-"
        and args.model is not None
        and args.model.suffix != ".onnx"
        and not args.model.is_dir()
    ):
        args.model, args.file = None, str(args.model)
    scorer = Scorer(args.model)
    names = _read_stdin() if args.file == "-" else iter(_read_names(Path(args.file)))
    scores: Iterable[Score] = scorer.stream(names)
    if args.sort:
        scores = sorted(
            scores, key=lambda score: -float("inf") if score.per_character is None else score.per_character
        )
    columns = ("name", "log_prob", "per_character", "perplexity", "unknown")
    rows = ((s.name, s.log_prob, s.per_character, s.perplexity, s.unknown) for s in scores)
    if args.format == "text":
        print(f"{'log_prob':>10} {'per char':>10} {'perplexity':>10}  name")
        for name, log_prob, per_character, perplexity, unknown in rows:
            if log_prob is None:
                print(f"{'-':>10} {'-':>10} {'-':>10}  {name}  (unknown: {unknown})")
            else:
                print(f"{log_prob:10.4f} {per_character:10.4f} {perplexity:10.3f}  {name}")
    else:
        _write_rows(args.format, columns, rows)
    return 0


def _info_parser() -> _Command:
    parser = _parser("info", "What an exported file holds.")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="form of the output")
    return parser, _info


def _info(args: argparse.Namespace) -> int:
    path = resolve_model(args.model)
    info = open_engine(path, prepare=False).info
    if args.format == "json":
        print(json.dumps({"file": str(path), **asdict(info)}, ensure_ascii=False, indent=2))
    else:
        print(_describe(path, info))
    return 0


def _describe(path: Path, info: ModelInfo) -> str:
    proof = info.verification
    checked, total = proof.get("contexts", 0), proof.get("contexts_total", 0)
    which = f"all {total:,}" if proof.get("exhaustive") else f"{checked:,} of {total:,}"
    deviation = proof.get("largest_deviation", float("nan"))
    rows = {
        "file": f"{path} ({path.stat().st_size:,} bytes)",
        "vocabulary": f"{len(info.characters)} characters and the boundary: {info.characters}",
        "context": f"{info.block_size} characters",
        "network": f"embedding {info.n_embd}, {info.n_layers} hidden of {info.n_hidden}, "
        f"{info.n_parameters:,} parameters",
        "form": info.form,
        "trained on": f"{info.list_name} (SHA-256 {info.list_sha256[:16]}…), "
        f"names of up to {info.longest_name} characters",
        "verified": f"on {which} contexts, largest deviation {deviation:.1e}",
        "written by": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
    }
    return "\n".join(f"{key + ':':<12} {_printable(value)}" for key, value in rows.items())


def _printable(text: str) -> str:
    """Characters that a terminal would obey, not show, as escapes: a file may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _write_rows(form: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """JSON (an array of objects, one a line) or CSV with a header, written as the rows come."""
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        return
    separator = "[\n"
    for row in rows:
        text = json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False)
        sys.stdout.write(f"{separator}  {text}")
        separator = ",\n"
    sys.stdout.write("\n]\n" if separator == ",\n" else "[]\n")


def _read_names(path: Path) -> list[str]:
    """Names in a UTF-8 file, one per line, outer spaces and blank lines dropped."""
    size = file_size(path, DataError)
    require_memory(NAME_BYTES_PER_BYTE * size, f"{path}: {NAME_BYTES_PER_BYTE} × {size:,} bytes as names")
    try:
        with path.open(encoding="utf-8-sig") as file:
            return list(read_lines(file, str(path)))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _read_stdin() -> Iterator[str]:
    """The same from standard input, as the lines come; strictly UTF-8, whatever the locale says."""
    if sys.stdin is None:
        raise DataError("standard input is closed")
    with open(sys.stdin.fileno(), encoding="utf-8-sig", closefd=False) as file:
        yield from read_lines(file, "standard input")


def read_lines(file: TextIO, source: str) -> Iterator[str]:
    number = 0
    try:
        # Not line by line: without line ends, one line would be all of the file.
        while line := file.readline(MAX_LENGTH + 2):
            number += 1
            if len(line.rstrip("\r\n")) > MAX_LENGTH:
                raise DataError(f"{source}, line {number}: more than {MAX_LENGTH:,} characters")
            if name := line.strip():
                yield name
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 ({error.reason})") from error
