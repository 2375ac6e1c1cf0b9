"""`NamesDataModule`: train, dev and test batches of a list of names."""

from typing import Any

import lightning as L
import torch

from makemore_pl.data.batches import BatchLoader, Windows, windows
from makemore_pl.data.corpus_cache import open_corpus
from makemore_pl.data.lists import find_list
from makemore_pl.errors import CheckpointError, DataError
from makemore_pl.memory import require_memory
from makemore_pl.vocabulary import Vocabulary, describe_characters

DEVICE_BYTES = 1 << 30
"""Streams up to this size lie on the training device; of larger ones, batches are sent to it."""


class NamesDataModule(L.LightningDataModule):
    """Splits a list of names and feeds next-character examples.

    Args:
        path: a text file, one name per line; or `names`, the shipped list; or `makemore`, the lectures' list.
        block_size: context length T, in characters.
        batch_size: contexts per training step, over all devices together. A context stands for all its
            examples, up to 32 at a time, unless `merge` is off.
        eval_batch_size: contexts per evaluation step, over all devices together.
        merge: learn from equal contexts at once: the same loss for a fraction of the work.
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
        batch_size: int = 1024,
        eval_batch_size: int = 16384,
        merge: bool = True,
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
        self.merge = merge

        self.list = find_list(path)
        self.corpus = open_corpus(self.list, dedupe=dedupe, seed=split_seed)
        if characters:
            self.corpus = self.corpus.with_vocabulary(Vocabulary(characters))
        self._streams: dict[str, torch.Tensor] = {}
        self._order_seed: int | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The characters of the list, or those that were asked for."""
        return self.corpus.vocabulary

    @property
    def vocab_size(self) -> int:
        """V: the different characters, and the boundary."""
        return len(self.vocabulary)

    @property
    def n_examples(self) -> int:
        """Training examples: characters of the training split's names, and one end for each."""
        return len(self.corpus.streams["train"])

    def examples(self, split: str) -> Windows:
        """All contexts (N, T) and targets (N,) of `train`, `dev` or `test`, int64, in the stream's order.

        Raises:
            MemoryLimitError: the contexts would take too much.
        """
        stream = torch.from_numpy(self.corpus.streams[split])
        n, t = len(stream), self.block_size
        each = t * (8 + stream.element_size()) + 40  # int64 and as in the stream; places of the examples
        require_memory(n * each, f"contexts: {n:,} examples × {each:,} bytes")
        contexts, targets = windows(stream, torch.arange(len(stream)), self.block_size)
        return contexts.long(), targets.long()

    def setup(self, stage: str) -> None:
        """Called by Lightning, on each rank."""
        assert self.trainer is not None
        # What seed_everything has set; without it ranks have seeds of their own, and rank 0's counts.
        self._order_seed = self.trainer.strategy.broadcast(torch.initial_seed())

    def train_dataloader(self) -> BatchLoader:
        seed = torch.initial_seed() if self._order_seed is None else self._order_seed
        return self._loader("train", self.batch_size, seed=seed)

    def val_dataloader(self) -> BatchLoader:
        return self._loader("dev", self.eval_batch_size)

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> BatchLoader:
        """Each example of the test split, in its order."""
        return self._loader("test", self.eval_batch_size, merged=False)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must know of its data to be exported or tested without it, or gone on with."""
        return {
            "characters": self.vocabulary.characters,
            "list_name": self.list.name,
            "list_sha256": self.list.sha256,
            "longest_name": self.corpus.longest_name,
            "order_seed": self._order_seed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with ids that mean other characters."""
        if state_dict["characters"] != self.vocabulary.characters:
            raise CheckpointError(
                f"the checkpoint knows {describe_characters(state_dict['characters'])}, the list "
                f"{self.list.name} has {describe_characters(self.vocabulary.characters)}"
            )
        self._order_seed = state_dict.get("order_seed")

    def _loader(
        self, split: str, batch_size: int, seed: int | None = None, merged: bool | None = None
    ) -> BatchLoader:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if split not in self._streams:
            stream = torch.from_numpy(self.corpus.streams[split])
            self._streams[split] = stream.to(device) if stream.nbytes <= DEVICE_BYTES else stream
        return BatchLoader(
            self._streams[split],
            self.block_size,
            batch_size,
            merged=self.merge if merged is None else merged,
            device=device,
            seed=seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
