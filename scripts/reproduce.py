"""Train the makemore lectures' systems by their own recipes and set the figures beside the printed ones.

    python scripts/reproduce.py                     all, and write docs/seeds.md
    python scripts/reproduce.py --only S2c S8       some; S2 stands for all five rungs

Needs the makemore list (found as by --data.path makemore). All systems take a quarter of an hour. Finished
trainings are kept: a command that was stopped, by Ctrl-C or otherwise, begins with the next one when it is
given again. Exit code 1: a figure differs by more than its tolerance.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from makemore_pl.errors import MakemoreError, RequestError
from makemore_pl.exported.metadata import RUNS_DIR
from makemore_pl.studies.recipes import lecture_examples
from makemore_pl.studies.study_plots import draw_pictures
from makemore_pl.studies.systems import STUDIES
from makemore_pl.studies.tables import Row, Table, comparison_table, write_tables
from makemore_pl.studies.workbench import Workbench

PAGE = Path(__file__).parents[1] / "docs" / "seeds.md"


def select(wanted: Sequence[str]) -> list[str]:
    """The studies that names such as S2c, or S2 for all of S2, stand for, in any case; all of them for none.

    Raises:
        RequestError: a name stands for nothing.
    """
    for name in wanted:
        if not any(stands_for(name, study) for study in STUDIES):
            raise RequestError(f"--only: no system {name!r}; there are {', '.join(STUDIES)}")
    return [study for study in STUDIES if not wanted or any(stands_for(name, study) for name in wanted)]


def stands_for(name: str, study: str) -> bool:
    """True for S2c as S2c, s2c or S2; but a letter alone stands for nothing."""
    return len(name) > 1 and study.lower().startswith(name.lower())


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
    examples = lecture_examples()  # may be downloaded, with a progress bar of its own
    rows: list[tuple[str, Row]] = []
    tables: dict[str, Table] = {}
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("")

        def show(name: str, done: int, steps: int) -> None:
            progress.update(task, description=name, completed=done, total=steps)

        bench = Workbench(examples, args.folder, show, args.max_steps)
        for study in studies:
            for part in STUDIES[study](bench):
                if isinstance(part, Row):
                    rows.append((study, part))
                elif part.name in tables:
                    tables[part.name].rows.extend(part.rows)
                else:
                    tables[part.name] = part
        tables["comparison"] = comparison_table(rows)
        if page is not None:
            write_tables(page, tables.values())
            draw_pictures(bench, page.parent / page.stem)
    asked = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if asked else 140)
    for table in tables.values():
        console.print(Markdown(f"# {table.name}\n\n{table.to_markdown()}"))
    compared = [row.within for _, row in rows if row.within is not None]
    console.print(f"{sum(compared)} of {len(compared)} within tolerance")
    return 0 if all(compared) or args.max_steps is not None else 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    systems = "of S1, S2a … S2e, S3 … S8, in any case"
    parser.add_argument("--only", nargs="+", default=[], metavar="SYSTEM", help=systems)
    parser.add_argument("--fresh", action="store_true", help="forget finished trainings, train all again")
    parser.add_argument("--max-steps", type=int, metavar="N", help="cut every run short, to try things out")
    parser.add_argument("--folder", type=Path, default=RUNS_DIR / "studies", help="where runs are kept")
    parser.add_argument("--page", type=Path, help="page to write tables into; docs/seeds.md when all is run")
    try:
        sys.exit(run(parser.parse_args()))
    except MakemoreError as error:
        print(f"reproduce.py: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command begins with the training that was stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
