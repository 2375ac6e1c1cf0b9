"""Recipes of S1 to S6 and S8 as in the notebooks: network, learning rate and number of steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Generator

from makemore_pl.data.batches import Windows, windows
from makemore_pl.data.corpus import SPLITS, encode_names
from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.data.recoding import translate
from makemore_pl.model.initialisation import TANH_GAIN
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies.backward import HandMadeMLP, loss_and_gradients
from makemore_pl.studies.raw_tensors import NotebookTraining
from makemore_pl.studies.sgd import LECTURE_SEED, SGDTraining, StepDecay

VOCAB_SIZE = 27
BLOCK_SIZE = 3
N_EMBD = 10
"""Of all systems but the first."""
Examples = Mapping[str, Windows]
"""Contexts and targets of `train`, `dev` and `test`, of `all` three, and of the list's first `five names`."""


def lecture_examples() -> Examples:
    """The makemore list, cut as the lectures cut it.

    Raises:
        DataError: the list is not available.
    """
    data = NamesDataModule("makemore", block_size=BLOCK_SIZE, dedupe=False)
    examples = {split: data.examples(split) for split in SPLITS}
    characters, stream = encode_names([data.list.names()[:5]])
    five_names = torch.from_numpy(translate(stream, characters, data.vocabulary))
    contexts, targets = windows(five_names, torch.arange(len(five_names)), BLOCK_SIZE)
    examples["five names"] = contexts.long(), targets.long()
    contexts_of, targets_of = zip(*(examples[split] for split in SPLITS), strict=True)
    return {**examples, "all": (torch.cat(contexts_of), torch.cat(targets_of))}


@dataclass(frozen=True)
class Recipe:
    """A `BatchNormMLP` and how it is trained.

    Args:
        options: of the network, beside an embedding of 10.
        n_steps: steps of 32 examples.
        learning_rate: of each step.
        split: the examples trained on.
    """

    options: Mapping[str, Any]
    n_steps: int = 200_000
    learning_rate: StepDecay = field(default_factory=StepDecay)
    split: str = "train"

    def start(self, examples: Examples, seed: int = LECTURE_SEED) -> SGDTraining[BatchNormMLP]:
        """The training before its first step. One generator draws the weights, then the mini-batches."""
        generator = Generator().manual_seed(seed)
        model = BatchNormMLP(VOCAB_SIZE, BLOCK_SIZE, **{"n_embd": N_EMBD, **self.options})
        model.reset_parameters(generator)
        return SGDTraining(model, examples[self.split], self.learning_rate, generator)


@dataclass(frozen=True)
class RawRecipe:
    """The lectures' own tensors and loop."""

    n_steps: int = 200_000

    def start(self, examples: Examples) -> NotebookTraining:
        return NotebookTraining(examples["train"], Generator().manual_seed(LECTURE_SEED))


@dataclass(frozen=True)
class HandMadeRecipe:
    """Hand-made gradients, no autograd."""

    n_steps: int = 200_000

    def start(self, examples: Examples) -> SGDTraining[HandMadeMLP]:
        generator = Generator().manual_seed(LECTURE_SEED)
        network = HandMadeMLP(generator)
        gradients = partial(loss_and_gradients, network)
        return SGDTraining(network, examples["train"], StepDecay(), generator, gradients)


_DEEP = {"n_hidden": 100, "n_layers": 5}
_LATE = StepDecay(decay_at=150_000)
S1 = Recipe(
    {"n_embd": 2, "n_hidden": 100, "batch_norm": False, "init": "normal", "output_gain": None},
    n_steps=30_000,
    learning_rate=StepDecay(decay_at=20_000),
    split="all",
)
LADDER = {
    "S2a": Recipe({"batch_norm": False, "init": "normal", "output_gain": None}),
    "S2b": Recipe({"batch_norm": False, "init": "normal", "output_gain": 0.01}),
    "S2c": Recipe({"batch_norm": False, "init": "scaled", "output_gain": 0.01}),
    "S2d": Recipe({"batch_norm": False, "init": "kaiming", "hidden_gain": TANH_GAIN, "output_gain": 0.01}),
    "S2e": Recipe({"hidden_gain": TANH_GAIN, "output_gain": 0.01, "momentum": 0.001}),
}
S2E_RAW = RawRecipe()
S3 = Recipe({**_DEEP, "hidden_gain": TANH_GAIN, "norm_output": True, "output_gain": 0.1}, 1_000, _LATE)
# The lectures' Linear starts at 1 / √fan_in, and that of the output is shrunk by 0.1.
S4 = Recipe({"hidden_gain": TANH_GAIN, "output_gain": 0.1 / 200**0.5}, learning_rate=_LATE)
S5 = Recipe({**_DEEP, "batch_norm": False, "init": "zero", "output_gain": None}, 10_000, _LATE)
S6 = Recipe({"n_hidden": 100, "n_layers": 3}, 2_000)
S8 = HandMadeRecipe()
