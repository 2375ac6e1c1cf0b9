"""`NamesDataModule`: train, dev and test batches of a list of names."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from makemore_pl.data.batches import BatchLoader, Windows, labelled, windows
from makemore_pl.data.corpus import name_ends
from makemore_pl.data.corpus_cache import open_corpus
from makemore_pl.data.lists import find_list
from makemore_pl.data.recoding import with_ids_of
from makemore_pl.data.training_loader import TrainingLoader
from makemore_pl.data.weighting import example_weights, label_ids, label_shares
from makemore_pl.errors import CheckpointError, DataError
from makemore_pl.reading.rows import Column, Columns
from makemore_pl.text import Case, Normalize, TextRules
from makemore_pl.vocabulary import Vocabulary, describe_characters

DEVICE_BYTES = 1 << 30
"""Streams up to this size lie on the training device; of larger ones, batches are sent to it."""


class NamesDataModule(L.LightningDataModule):
    """Splits a list of names and feeds next-character examples.

    Args:
        path: a text file, one name per line, or a table; or `names`, the shipped list; or `makemore`, the
            lectures' list.
        block_size: context length T, in characters.
        batch_size: contexts per training step, over all devices together. A context stands for all its
            examples, up to 32 at a time, unless `merge` is off.
        eval_batch_size: contexts per evaluation step, over all devices together.
        merge: learn from equal contexts at once: the same loss for a fraction of the work.
        dedupe: keep each name once, so that no name stands in two splits.
        split_seed: seed of the 80/10/10 split.
        characters: the vocabulary; by default that of the list. A checkpoint's own is put here when it is
            tested on another list.
        labels: the labels; by default those of the list. A checkpoint's own, as `characters`.
        name_column: where a table has its names: number, from 1, or title.
        weight_column: where it has the names' weights: a name counts so many times. Counts, say.
        label_column: where it has their labels: a class of names that can be asked for.
        weight_power: weights are raised to this power, 0 to 1, in training: at 1, frequent names drown the
            list; at 0, all count alike.
        weighted_figures: let names count by their weights, as they are, in evaluations, too; by default
            each counts once there.
        normalize: Unicode form of all names: nfc, nfkc, or none: leave them as they are.
        case: keep, lower, or title: a capital at the start of each word.

    Attributes:
        epoch_end, batches_per_pass: see `TrainingLoader`.
        epoch_length: from a position to the length of all epochs to come, if they have one.
        shuffle: give each pass an order of its own. `makemore fit` sets these four.

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
        labels: list[str] | None = None,
        name_column: Column = None,
        weight_column: Column = None,
        label_column: Column = None,
        weight_power: float = 0.3,
        weighted_figures: bool = False,
        normalize: Normalize = "nfc",
        case: Case = "keep",
    ) -> None:
        super().__init__()
        sizes = {"block_size": block_size, "batch_size": batch_size, "eval_batch_size": eval_batch_size}
        for name, value in sizes.items():
            if value < 1:
                raise DataError(f"data.{name} must be at least 1, not {value}")
        if not 0 <= weight_power <= 1:
            raise DataError(f"data.weight_power must be from 0 to 1, not {weight_power}")
        self.save_hyperparameters()
        self.block_size = block_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.merge = merge

        self.rules = TextRules(normalize, case)
        self.list = find_list(path, Columns(name_column, weight_column, label_column), self.rules)
        self.corpus = open_corpus(self.list, dedupe=dedupe, seed=split_seed)
        for said in self.list.news(self.corpus.n_respelled):
            rank_zero_warn(said, stacklevel=2)
        self.corpus = with_ids_of(self.corpus, characters, labels)
        self.weight_power = weight_power
        self.weighted_figures = weighted_figures
        self.epoch_end: Callable[[int], int] | None = None
        self.epoch_length: Callable[[int], int | None] | None = None
        self.batches_per_pass: int | None = None
        self.shuffle = True
        self._training_pass: BatchLoader | None = None
        self._order_seed = torch.initial_seed()
        self._resumed_at = 0  # batches seen before this fit

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

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the names, by number; none for a list without."""
        return self.corpus.labels

    @property
    def n_labels(self) -> int:
        """L: the different labels; 0 for a list without."""
        return len(self.labels)

    def windows(self, split: str, places: Tensor) -> Windows:
        """Contexts and targets at some places, int64 (n,), of `train`, `dev` or `test`, in the stream's type.

        Contexts are (n, T). With labels they are (n, 1 + T): column 0 has V + the number of the label.
        """
        stream = torch.from_numpy(self.corpus.streams[split])
        contexts, targets = windows(stream, places, self.block_size)
        if (labels := label_ids(self.corpus, split)) is not None:
            ends = torch.from_numpy(name_ends(self.corpus.streams[split]))
            contexts = labelled(contexts, labels[torch.searchsorted(ends, places)])
        return contexts, targets

    def examples(self, split: str) -> Windows:
        """All contexts and targets of a split, int64, in the stream's order; see `windows`."""
        contexts, targets = self.windows(split, torch.arange(len(self.corpus.streams[split])))
        return contexts.long(), targets.long()

    def setup(self, stage: str) -> None:
        """Agree on the seed of the training order. Lightning calls it on each rank."""
        # What seed_everything has set; without it ranks have seeds of their own, and rank 0's counts.
        seed = torch.initial_seed()
        self._order_seed = self.trainer.strategy.broadcast(seed) if self.trainer else seed

    def train_dataloader(self) -> TrainingLoader | BatchLoader:
        loader = self.training_pass()
        if self.trainer and getattr(self.trainer, "overfit_batches", 0) > 0:
            return loader  # its first batches, the same in each epoch
        loader.seed = self._order_seed if self.shuffle else None
        length = self.epoch_length(self.position) if self.epoch_length else None
        return TrainingLoader(loader, self.position, self.batches_per_pass, self.epoch_end, length)

    def val_dataloader(self) -> BatchLoader:
        return self._loader("dev", self.eval_batch_size)

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> BatchLoader:
        """Each example of the test split, in its order."""
        return self._loader("test", self.eval_batch_size, merged=False)

    def training_pass(self) -> BatchLoader:
        """This rank's share of the training split, once over; the same object at each call."""
        if self._training_pass is None:
            self._training_pass = self._loader("train", self.batch_size)
        return self._training_pass

    @property
    def position(self) -> int:
        """Training batches seen since the run began, before and after it was resumed."""
        seen = self.trainer.fit_loop.total_batch_idx + 1 if self.trainer else 0
        return max(seen, self._resumed_at)

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint must hold of its data: to be exported or tested without it, or resumed."""
        return {
            "characters": self.vocabulary.characters,
            "labels": list(self.labels),
            "label_shares": label_shares(self.corpus, self.weight_power),
            "normalize": self.rules.normalize,
            "case": self.rules.case,
            "list_name": self.list.name,
            "list_sha256": self.list.sha256,
            "longest_name": self.corpus.longest_name,
            "order_seed": self._order_seed,
            "position": self.position,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after the batches that a checkpoint has seen.

        Raises:
            CheckpointError: its ids stand for other characters than this list's.
        """
        if tuple(state_dict.get("labels", ())) != self.labels:
            raise CheckpointError(
                f"the checkpoint has the labels {state_dict.get('labels', [])}, the list {self.list.name} "
                f"has {list(self.labels)}"
            )
        if state_dict["characters"] != self.vocabulary.characters:
            raise CheckpointError(
                f"the checkpoint knows {describe_characters(state_dict['characters'])}, the list "
                f"{self.list.name} has {describe_characters(self.vocabulary.characters)}"
            )
        self._order_seed = state_dict["order_seed"]
        self._resumed_at = state_dict["position"]

    def _loader(self, split: str, batch_size: int, merged: bool | None = None) -> BatchLoader:
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        stream = torch.from_numpy(self.corpus.streams[split])
        stream = stream.to(device) if stream.nbytes <= DEVICE_BYTES else stream
        labels = label_ids(self.corpus, split)
        power = self.weight_power if split == "train" else float(self.weighted_figures)
        weights = example_weights(self.corpus, split, power)
        return BatchLoader(
            stream,
            self.block_size,
            batch_size,
            labels=None if labels is None else labels.to(stream.device),
            weights=None if weights is None else weights.to(stream.device),
            merged=self.merge if merged is None else merged,
            device=device,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
