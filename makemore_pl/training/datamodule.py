"""`NamesDataModule`: train, dev and test batches of a list of names."""

from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from makemore_pl.errors import CheckpointError, DataError
from makemore_pl.training.batches import BatchLoader
from makemore_pl.training.corpus import TokenStream, split_names
from makemore_pl.training.lists import load_list
from makemore_pl.vocabulary import Vocabulary, describe_characters


class NamesDataModule(L.LightningDataModule):
    """Splits a list of names and feeds next-character examples.

    Args:
        path: a text file, one name per line; or `names`, the shipped list; or `makemore`, the lectures' list.
        block_size: context length T, in characters.
        batch_size: examples per training step, over all devices together.
        eval_batch_size: examples per evaluation step, over all devices together.
        dedupe: keep each name once, so that no name stands in two splits.
        split_seed: seed of the 80/10/10 split.
        characters: the vocabulary; by default that of the list. A checkpoint's own is put here when it is
            tested on another list.

    Raises:
        DataError: the list cannot be read or has too few names, or a size is below 1.
    """

    def __init__(
        self,
        path: str = "names",
        block_size: int = 3,
        batch_size: int = 1536,
        eval_batch_size: int = 16384,
        dedupe: bool = True,
        split_seed: int = 42,
        characters: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("block_size", block_size),
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size),
        ):
            if value < 1:
                raise DataError(f"data.{name} must be at least 1, not {value}")
        self.save_hyperparameters()
        self.block_size = block_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size

        self.list = load_list(path)
        self.vocabulary = Vocabulary(characters) if characters else Vocabulary.from_names(self.list.names)
        self.splits = split_names(self.list.names, dedupe=dedupe, seed=split_seed, source=path)
        self._examples: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def vocab_size(self) -> int:
        """V: the different characters of the list, and the boundary."""
        return len(self.vocabulary)

    def windows(self, split: str) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Contexts (N, T) and targets (N,) of `train`, `dev` or `test`."""
        return TokenStream.from_names(getattr(self.splits, split), self.vocabulary).windows(self.block_size)

    def train_dataloader(self) -> BatchLoader:
        # torch.initial_seed is what seed_everything has set: the same on every rank.
        return self._loader("train", self.batch_size, seed=torch.initial_seed())

    def val_dataloader(self) -> BatchLoader:
        return self._loader("dev", self.eval_batch_size)

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> BatchLoader:
        return self._loader("test", self.eval_batch_size)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must know of its data to be exported, or tested, without it."""
        return {
            "characters": self.vocabulary.characters,
            "list_name": self.list.name,
            "list_sha256": self.list.sha256,
            "longest_name": max(map(len, self.list.names)),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with ids that mean other characters."""
        if state_dict["characters"] != self.vocabulary.characters:
            raise CheckpointError(
                f"the checkpoint knows {describe_characters(state_dict['characters'])}, the list "
                f"{self.list.name} has {describe_characters(self.vocabulary.characters)}"
            )

    def _loader(self, split: str, batch_size: int, seed: int | None = None) -> BatchLoader:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if split not in self._examples:
            contexts, targets = map(_to_tensor, self.windows(split))
            self._examples[split] = contexts.to(device), targets.to(device)
        contexts, targets = self._examples[split]
        return BatchLoader(
            contexts,
            targets,
            batch_size,
            seed=seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )


def _to_tensor(array: NDArray[np.integer]) -> torch.Tensor:
    """Ids as a tensor in as few bytes as PyTorch can index: uint8, else int32."""
    return torch.from_numpy(array if array.dtype == np.uint8 else array.astype(np.int32))
