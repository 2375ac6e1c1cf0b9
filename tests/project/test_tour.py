"""The guided tour, walked in short form: every block of the page, with few steps and examples."""

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import BLOCK, ROOT, Reproduce, RunCommand

from makemore_pl.studies import systems as studied
from makemore_pl.studies.recipes import lecture_examples

DOCS = ROOT / "docs"
TOUR = (DOCS / "tour.md").read_text(encoding="utf-8")
SHORT_FIT = (
    *("--trainer.max_epochs", "1"),
    *("--trainer.limit_train_batches", "20"),
    *("--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false"),
)


@pytest.mark.slow
def test_every_block_runs(
    makemore: RunCommand, makemore_names: list[str], cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduce = Reproduce(monkeypatch)
    examples = lecture_examples()
    few = {**examples, "train": examples["dev"], "all": examples["dev"]}
    monkeypatch.setattr(reproduce.module, "lecture_examples", lambda: few)
    monkeypatch.setattr(studied, "inference_seconds", partial(studied.inference_seconds, rounds=1))
    namespace: dict[str, Any] = {}  # each block continues the one before
    systems: set[str] = set()
    for block in BLOCK.finditer(TOUR):
        if block["language"] == "python":
            exec(compile(block["code"], "tour.md", "exec"), namespace)
            continue
        for line in block["code"].splitlines():
            program, *args = shlex.split(line)
            if program == "makemore":
                if args[0] == "fit":
                    args += SHORT_FIT
                    if "tour" not in args:  # only that run's export is used later on the page
                        args += ["--export.enabled", "false"]
                makemore(*args).succeeds()
            else:
                assert [program, args[0]] == ["python", "scripts/reproduce.py"], line
                assert reproduce(*args[1:], "--max-steps", 5) == 0, line
                systems.update(args[2:])
    assert systems == {f"S{number}" for number in range(1, 9)}
    assert namespace["n_context"] == 3


def test_commands_of_the_systems_page_are_understood(makemore: RunCommand, makemore_names: list[str]) -> None:
    for block in BLOCK.finditer((DOCS / "seeds.md").read_text(encoding="utf-8")):
        for line in block["code"].splitlines():
            makemore(*shlex.split(line)[1:], "--print_config").succeeds()
