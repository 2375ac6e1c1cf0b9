"""The workbench of all studies: the examples, and finished training runs, kept in files."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from makemore_pl.errors import RequestError
from makemore_pl.files import written_whole
from makemore_pl.studies.recipes import Examples
from makemore_pl.studies.sgd import Model, SGDTraining

SHOW_EVERY = 1_000
"""Steps between two reports of progress: some tenths of a second."""


class AnyRecipe(Protocol[Model]):
    """Something that can be trained. Its `repr` says all that makes it different from another."""

    @property
    def n_steps(self) -> int: ...
    def start(self, examples: Examples) -> SGDTraining[Model]: ...


class Workbench:
    """Trains by recipe, and keeps what is trained: the next time, a run is read from its file.

    Args:
        examples: of the lectures' list.
        folder: where finished runs are kept, one file each.
        progress: called with a run's name, the steps made and the steps wanted.
        max_steps: cuts every run short, to try things out.
    """

    def __init__(
        self,
        examples: Examples,
        folder: Path,
        progress: Callable[[str, int, int], None] = lambda name, done, wanted: None,
        max_steps: int | None = None,
    ) -> None:
        self.examples = examples
        self.folder = folder
        self.progress = progress
        self.max_steps = max_steps

    def steps_of(self, recipe: AnyRecipe[Model]) -> int:
        """The recipe's steps, or fewer where all runs are cut short."""
        return recipe.n_steps if self.max_steps is None else min(recipe.n_steps, self.max_steps)

    def train(self, name: str, recipe: AnyRecipe[Model], n_steps: int | None = None) -> SGDTraining[Model]:
        """Train to the recipe's end, or to `n_steps`; a run of another recipe in the folder is replaced.

        Raises:
            RequestError: the file in the folder is damaged.
        """
        wanted = self.steps_of(recipe) if n_steps is None else min(n_steps, self.steps_of(recipe))
        file = self.folder / f"{name}-{wanted}.pt"
        run = recipe.start(self.examples)
        if file.exists():
            try:
                state: dict[str, Any] = torch.load(file, weights_only=True)
                if state.pop("recipe") == repr(recipe):
                    run.load_state_dict(state)
                    return run
            except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
                raise RequestError(f"{file}: damaged, or not a run of these studies; delete it") from error
        while run.step < wanted:
            self.progress(name, run.step, wanted)
            run.advance(min(SHOW_EVERY, wanted - run.step))
        self.progress(name, wanted, wanted)
        with written_whole(file) as target:
            torch.save({"recipe": repr(recipe), **run.state_dict()}, target)
        return run
