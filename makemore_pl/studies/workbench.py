"""What all studies share: the examples, and training runs that can be stopped and gone on with."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from makemore_pl.errors import RequestError
from makemore_pl.studies.recipes import Examples
from makemore_pl.studies.sgd import Training
from makemore_pl.studies.tables import Outcome

SAVE_EVERY = 5_000
"""Steps between two saves, some seconds: what an interruption loses at most."""

Progress = Callable[[str, int, int], None]
"""Called with a run's name, the steps made and the steps wanted."""
Run = TypeVar("Run", bound=Training, covariant=True)


class AnyRecipe(Protocol[Run]):
    """What can be trained. Its `repr` says all that makes it different from another."""

    @property
    def n_steps(self) -> int: ...
    def start(self, examples: Examples) -> Run: ...


class Workbench:
    """Trains by recipe, and keeps what is trained: asked for again, a run is read from its file.

    Args:
        examples: of the lectures' list.
        folder: where the runs are kept, one file each.
        progress: told after every save.
        max_steps: cuts every run short, to try things out.
    """

    def __init__(
        self,
        examples: Examples,
        folder: Path,
        progress: Progress = lambda name, done, wanted: None,
        max_steps: int | None = None,
    ) -> None:
        self.examples = examples
        self.folder = folder
        self.progress = progress
        self.max_steps = max_steps

    def steps_of(self, recipe: AnyRecipe[Training]) -> int:
        """The recipe's steps, or fewer where all runs are cut short."""
        return recipe.n_steps if self.max_steps is None else min(recipe.n_steps, self.max_steps)

    def train(self, name: str, recipe: AnyRecipe[Run], n_steps: int | None = None) -> Run:
        """Train to the recipe's end, or to `n_steps`.

        A run found in the folder is gone on with, and ends with the same numbers as one never stopped.

        Raises:
            RequestError: the file in the folder is damaged.
        """
        wanted = self.steps_of(recipe) if n_steps is None else min(n_steps, self.steps_of(recipe))
        file = self.folder / f"{name}-{wanted}.pt"
        run = recipe.start(self.examples)
        if file.exists():
            _load(run, repr(recipe), file)
        self.progress(name, run.step, wanted)
        while run.step < wanted:
            run.advance(min(SAVE_EVERY, wanted - run.step))
            _save(run, repr(recipe), file)
            self.progress(name, run.step, wanted)
        return run


def _save(run: Training, recipe: str, file: Path) -> None:
    """Written beside and renamed: an interruption leaves the file before or the file after."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    torch.save({"recipe": recipe, **run.state_dict()}, part)
    part.replace(file)


def _load(run: Training, recipe: str, file: Path) -> None:
    """Take up the run in `file`. One of another recipe is left, and written over by the first save."""
    try:
        state = torch.load(file, weights_only=True)
        if state.pop("recipe") == recipe:
            run.load_state_dict(state)
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
        raise RequestError(f"{file}: damaged, or not a run of these studies; delete it") from error


Study = Callable[[Workbench], Outcome]
"""Trains a system, or takes one apart, and compares."""
