"""Runs on the workbench: read when finished, begun again when not, damaged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_batch
from torch import nn

from makemore_pl.errors import RequestError
from makemore_pl.studies.recipes import HandMadeRecipe, RawRecipe, Recipe
from makemore_pl.studies.sgd import StepDecay
from makemore_pl.studies.workbench import AnyRecipe, Workbench

RECIPE = Recipe({"n_hidden": 20}, 23, StepDecay(decay_at=12))
EXAMPLES = {"train": random_batch(500)}


def same(one: Any, other: Any) -> bool:
    """True if two states are equal, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other)


@pytest.mark.parametrize(
    "recipe", [RECIPE, RawRecipe(23), HandMadeRecipe(23)], ids=["model", "raw", "by hand"]
)
def test_a_finished_run_is_read_and_an_unfinished_one_begins_again(
    recipe: AnyRecipe[nn.Module], tmp_path: Path
) -> None:
    steps: list[int] = []

    def stop(name: str, done: int, wanted: int) -> None:
        steps.append(done)
        if done == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Workbench(EXAMPLES, tmp_path, stop).train("X", recipe)
    assert not list(tmp_path.iterdir())
    trained = Workbench(EXAMPLES, tmp_path).train("X", recipe)
    assert trained.step == 23
    read = Workbench(EXAMPLES, tmp_path, stop).train("X", recipe)
    assert steps == [0]  # nothing was trained
    assert same(read.state_dict(), trained.state_dict())


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
