from pathlib import Path
from typing import Any

import pytest
import torch

from makemore_pl.errors import RequestError
from makemore_pl.studies import workbench
from makemore_pl.studies.recipes import Examples, HandMadeRecipe, RawRecipe, Recipe
from makemore_pl.studies.sgd import StepDecay, Training
from makemore_pl.studies.workbench import AnyRecipe, Workbench

RECIPES = [Recipe({"n_hidden": 20}, 23, StepDecay(decay_at=12)), RawRecipe(23), HandMadeRecipe(23)]


@pytest.fixture
def examples() -> Examples:
    generator = torch.Generator().manual_seed(1)
    contexts = torch.randint(27, (500, 3), generator=generator)
    return {"train": (contexts, torch.randint(27, (500,), generator=generator))}


def interrupt_at(step: int) -> workbench.Progress:
    def progress(name: str, done: int, wanted: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other)


@pytest.mark.parametrize("recipe", RECIPES, ids=["model", "raw", "by hand"])
def test_stopped_and_gone_on_with_equals_unbroken(
    recipe: AnyRecipe[Training], examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "SAVE_EVERY", 5)
    unbroken = Workbench(examples, tmp_path / "unbroken").train("X", recipe)
    for stop in (10, 20):
        with pytest.raises(KeyboardInterrupt):
            Workbench(examples, tmp_path / "broken", interrupt_at(stop)).train("X", recipe)
    steps: list[int] = []
    bench = Workbench(examples, tmp_path / "broken", lambda name, done, wanted: steps.append(done))
    broken = bench.train("X", recipe)
    assert steps == [20, 23]
    assert broken.step == unbroken.step == 23
    assert same(broken.state_dict(), unbroken.state_dict())


def test_a_finished_run_is_read_not_trained(examples: Examples, tmp_path: Path) -> None:
    bench = Workbench(examples, tmp_path)
    first = bench.train("X", RECIPES[0])
    steps: list[int] = []
    second = Workbench(examples, tmp_path, lambda name, done, wanted: steps.append(done)).train(
        "X", RECIPES[0]
    )
    assert steps == [23]
    assert same(first.state_dict(), second.state_dict())


def test_a_run_of_another_recipe_is_not_gone_on_with(examples: Examples, tmp_path: Path) -> None:
    Workbench(examples, tmp_path).train("X", RECIPES[0])
    other = Recipe({"n_hidden": 20}, 23, StepDecay(decay_at=11))
    alone = Workbench(examples, tmp_path / "alone").train("X", other)
    assert same(Workbench(examples, tmp_path).train("X", other).state_dict(), alone.state_dict())


def test_runs_can_be_cut_short(examples: Examples, tmp_path: Path) -> None:
    bench = Workbench(examples, tmp_path, max_steps=7)
    assert bench.train("X", RECIPES[0]).step == 7
    assert bench.train("X", RECIPES[0], n_steps=3).step == 3
    assert bench.train("X", RECIPES[0], n_steps=9).step == 7
    # The whole run does not take up the short one's file.
    assert Workbench(examples, tmp_path).train("X", RECIPES[0]).step == 23


def test_a_damaged_file_is_named(examples: Examples, tmp_path: Path) -> None:
    (tmp_path / "X-23.pt").write_bytes(b"no run")
    with pytest.raises(RequestError, match=r"X-23\.pt: damaged"):
        Workbench(examples, tmp_path).train("X", RECIPES[0])
    torch.save({"recipe": repr(RECIPES[0]), "losses": torch.zeros(3)}, tmp_path / "X-23.pt")
    with pytest.raises(RequestError, match=r"X-23\.pt: damaged"):
        Workbench(examples, tmp_path).train("X", RECIPES[0])


def test_a_save_cut_off_leaves_the_one_before(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "SAVE_EVERY", 10)
    save = torch.save

    def cut_off(state: dict[str, Any], file: Path) -> None:
        save(state, file)
        if len(state["losses"]) > 10:
            file.write_bytes(file.read_bytes()[:100])
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        Workbench(examples, tmp_path).train("X", RECIPES[0])
    monkeypatch.setattr(torch, "save", save)
    steps: list[int] = []
    Workbench(examples, tmp_path, lambda name, done, wanted: steps.append(done)).train("X", RECIPES[0])
    assert steps[0] == 10
