"""Runs on the workbench: resumed after interruptions, read when finished, damaged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_batch
from torch import nn

from makemore_pl.errors import RequestError
from makemore_pl.studies import workbench
from makemore_pl.studies.recipes import HandMadeRecipe, RawRecipe, Recipe
from makemore_pl.studies.sgd import StepDecay
from makemore_pl.studies.workbench import AnyRecipe, Workbench

RECIPE = Recipe({"n_hidden": 20}, 23, StepDecay(decay_at=12))
EXAMPLES = {"train": random_batch(500)}


class Interruption:
    """Watches the progress of a run, and stops it at a step."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps: list[int] = []

    def __call__(self, name: str, done: int, wanted: int) -> None:
        self.steps.append(done)
        if done == self.at:
            raise KeyboardInterrupt


def same(one: Any, other: Any) -> bool:
    """True if two states are equal, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other)


@pytest.mark.parametrize(
    "recipe", [RECIPE, RawRecipe(23), HandMadeRecipe(23)], ids=["model", "raw", "by hand"]
)
def test_a_resumed_run_equals_an_unbroken_one_and_is_then_read(
    recipe: AnyRecipe[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "SAVE_EVERY", 5)
    unbroken = Workbench(EXAMPLES, tmp_path / "unbroken").train("X", recipe)
    for stop in (10, 20):
        with pytest.raises(KeyboardInterrupt):
            Workbench(EXAMPLES, tmp_path / "broken", Interruption(stop)).train("X", recipe)
    for steps in ([20, 23], [23]):
        progress = Interruption()
        broken = Workbench(EXAMPLES, tmp_path / "broken", progress).train("X", recipe)
        assert progress.steps == steps
        assert same(broken.state_dict(), unbroken.state_dict())


def test_a_run_of_another_recipe_is_not_resumed(tmp_path: Path) -> None:
    Workbench(EXAMPLES, tmp_path).train("X", RECIPE)
    other = Recipe({"n_hidden": 20}, 23, StepDecay(decay_at=11))
    alone = Workbench(EXAMPLES, tmp_path / "alone").train("X", other)
    assert same(Workbench(EXAMPLES, tmp_path).train("X", other).state_dict(), alone.state_dict())


def test_runs_can_be_cut_short(tmp_path: Path) -> None:
    bench = Workbench(EXAMPLES, tmp_path, max_steps=7)
    assert [bench.train("X", RECIPE, n_steps=n).step for n in (None, 3, 9)] == [7, 3, 7]
    # The whole run does not take up the short one's file.
    assert Workbench(EXAMPLES, tmp_path).train("X", RECIPE).step == 23


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "X-23.pt"
    file.write_bytes(b"no run")
    with pytest.raises(RequestError, match=r"X-23\.pt: damaged"):
        Workbench(EXAMPLES, tmp_path).train("X", RECIPE)
    torch.save({"recipe": repr(RECIPE), "losses": torch.zeros(3)}, file)
    with pytest.raises(RequestError, match=r"X-23\.pt: damaged"):
        Workbench(EXAMPLES, tmp_path).train("X", RECIPE)
