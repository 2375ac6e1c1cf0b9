"""Train the makemore lectures' systems by their own recipes and set the figures beside the printed ones.

    python scripts/reproduce.py                     all, and write docs/seeds.md
    python scripts/reproduce.py --only S2c S8       some; S2 stands for all five rungs

Needs the makemore list (found as by --data.path makemore). All systems take a quarter of an hour. A command
that was stopped, by Ctrl-C or otherwise, resumes where it was when it is given again. Exit code 1: a figure
differs by more than its tolerance.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from makemore_pl.errors import MakemoreError, RequestError
from makemore_pl.runtime.metadata import RUNS_DIR
from makemore_pl.studies.recipes import lecture_examples
from makemore_pl.studies.study_plots import draw_pictures
from makemore_pl.studies.systems import STUDIES
from makemore_pl.studies.tables import Row, Table, comparison_table, write_tables
from makemore_pl.studies.workbench import Workbench

PAGE = Path(__file__).parents[1] / "docs" / "seeds.md"


def select(wanted: Sequence[str]) -> list[str]:
    """The studies that names such as S2c, or S2 for all of S2, stand for; all of them for none.

    Raises:
        RequestError: a name stands for nothing.
    """
    for name in wanted:
        if not any(study.startswith(name) for study in STUDIES):
            raise RequestError(f"--only: no system {name!r}; there are {', '.join(STUDIES)}")
    return [study for study in STUDIES if not wanted or any(study.startswith(name) for name in wanted)]


def run(args: argparse.Namespace) -> int:
    """Train, print the tables, write the page; returns the exit code."""
    studies = select(args.only)
    if args.max_steps is not None and args.max_steps < 1:
        raise RequestError(f"--max-steps must be at least 1, not {args.max_steps}")
    page = args.page or (PAGE if not args.only and args.max_steps is None else None)
    if page is not None and not page.is_file():  # said now, not after a quarter of an hour
        raise RequestError(f"--page: no file {page}; tables are written between the marks of a page")
    torch.set_num_threads(1)  # the tensors are so small that a second thread costs more than it brings
    if args.fresh:
        for file in args.folder.glob("*.pt"):
            file.unlink()
    rows: list[Row] = []
    tables: dict[str, Table] = {}
    console = Console(width=None if sys.stdout.isatty() else 140)
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("data", total=None)

        def show(name: str, done: int, steps: int) -> None:
            progress.update(task, description=name, completed=done, total=steps)

        bench = Workbench(lecture_examples(), args.folder, show, args.max_steps)
        for study in studies:
            outcome = STUDIES[study](bench)
            rows += outcome.rows
            for table in outcome.tables:
                tables.setdefault(table.name, Table(table.name, table.columns)).rows.extend(table.rows)
        tables["comparison"] = comparison_table(rows)
        if page is not None:
            write_tables(page, list(tables.values()))
            draw_pictures(bench, page.parent / page.stem)
    for table in tables.values():
        console.print(Markdown(f"# {table.name}\n\n{table.to_markdown()}"))
    compared = [row.within for row in rows if row.within is not None]
    console.print(f"{sum(compared)} of {len(compared)} within tolerance")
    return 0 if all(compared) or args.max_steps is not None else 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="SYSTEM", help="of S1, S2a … S2e, S3 … S8")
    parser.add_argument("--fresh", action="store_true", help="resume nothing, train all again")
    parser.add_argument("--max-steps", type=int, metavar="N", help="cut every run short, to try things out")
    parser.add_argument("--folder", type=Path, default=RUNS_DIR / "studies", help="where runs are kept")
    parser.add_argument("--page", type=Path, help="page to write tables into; docs/seeds.md when all is run")
    try:
        sys.exit(run(parser.parse_args()))
    except MakemoreError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("stopped; the same command resumes here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
