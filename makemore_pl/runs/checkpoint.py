"""Read a run's checkpoint: safely, and with one line that says what is wrong where it cannot be used."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import CheckpointError, DataError, MakemoreError, RequestError
from makemore_pl.exported.metadata import OPTIONAL, is_sound
from makemore_pl.files import file_size
from makemore_pl.memory import require_memory
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.runs.run_folder import BEST, LAST
from makemore_pl.vocabulary import Vocabulary, describe_characters

_STORED = {
    "global_step": int,
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "NamesDataModule": dict,
}
"""Lightning's name and the type of each thing that is read."""
STATE = ("characters", "longest_name", "list_name", "list_sha256", *OPTIONAL)
"""Keys of `NamesDataModule.state_dict()` that are also metadata of an exported file."""
LONGEST_NAME = 16
"""Characters of the longest name of a list that nothing is known of."""


@dataclass(frozen=True)
class Checkpoint:
    """A model, and the data that it was trained on, as a checkpoint of `makemore fit` describes them.

    Attributes:
        path: the file.
        model_arguments: arguments of `LitBatchNormMLP`.
        data_arguments: arguments of `NamesDataModule`.
        data: `NamesDataModule.state_dict()`: vocabulary and training list.
        global_step: optimiser steps made.
        weights: `LitBatchNormMLP.state_dict()`, on the CPU.
    """

    path: Path
    model_arguments: dict[str, Any]
    data_arguments: dict[str, Any]
    data: dict[str, Any]
    global_step: int
    weights: Mapping[str, Tensor]

    @property
    def labels(self) -> list[str]:
        """The names' labels, by number; none where they have no labels."""
        return list(self.data["labels"])

    def load_model(self) -> BatchNormMLP:
        """Build the trained network: float32, on the CPU, in eval mode.

        Raises:
            CheckpointError: weights and arguments do not fit each other, or a weight is NaN or infinite.
        """
        try:
            with torch.random.fork_rng(devices=[]):  # the initial weights are replaced: nobody's draws change
                module = LitBatchNormMLP(**self.model_arguments)
            module.load_state_dict(dict(self.weights))
        except Exception as error:  # damaged arguments raise whatever they lead to
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{self.path}: its weights do not fit its arguments ({reason})") from error
        for name, weight in module.state_dict().items():
            if not weight.isfinite().all():
                raise CheckpointError(
                    f"{self.path}: {name} has NaN or infinite values: training has diverged, or the file is "
                    "damaged; a lower model.lr may help"
                )
        return module.net.float().eval()

    def open_list(self, path: str | None = None) -> NamesDataModule:
        """Read the training list again, split as in training.

        Args:
            path: where it lies now; where it lay in training if left out.

        Raises:
            DataError: it cannot be read, or is another list.
        """
        path = path or self.data_arguments["path"]
        known = {"characters": self.data["characters"], "labels": self.data["labels"]}
        data = NamesDataModule(**{**self.data_arguments, "path": path, **known})
        if data.list.sha256 != self.data["list_sha256"]:
            raise DataError(f"{path} is not the list that was trained on: its SHA-256 is another")
        return data


def read_checkpoint(path: Path | str, vocabulary: str | None = None) -> Checkpoint:
    """Read a checkpoint of this project. Only tensors and plain values are unpickled, never code.

    Args:
        path: the file, or a run's folder: then its best checkpoint, or the last if none was evaluated.
        vocabulary: the characters, for a `LitBatchNormMLP` that was trained without `NamesDataModule`, whose
            checkpoint does not know them. Ids are 1, 2, … in the order of code points; 0 is the boundary.

    Raises:
        CheckpointError: missing, damaged, diverged, or written by another program.
        RequestError: the vocabulary is not the model's.
        MemoryLimitError: it would take too much memory.
    """
    path = Path(path)
    if path.is_dir():  # a run's folder
        found = [file for name in (BEST, LAST) if (file := path / f"{name}.ckpt").is_file()]
        if not found:
            raise CheckpointError(f"{path}: the folder holds neither {BEST}.ckpt nor {LAST}.ckpt")
        path = found[0]
    file_size(path, CheckpointError)  # a pipe would never end
    try:
        _verify_checksums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MakemoreError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: it holds more than tensors and plain values, and reading that could run code"
        ) from error
    except Exception as error:  # damaged bytes raise whatever they lead to
        raise CheckpointError(
            f"{path}: not a checkpoint, or one that is damaged or cut short ({error or type(error).__name__})"
        ) from error
    if vocabulary is not None and isinstance(content, dict):
        _add_vocabulary(path, content, vocabulary)
    for key, expected in _STORED.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), expected):
            raise CheckpointError(
                f"{path}: not a checkpoint of this program (it has no {key} of type {expected.__name__}); "
                "one that was trained on a loader of your own is exported with --vocabulary"
            )
    checkpoint = Checkpoint(
        path,
        model_arguments=content["hyper_parameters"],
        # A checkpoint that does not say so is from when lists were read as they are.
        data_arguments={"normalize": "none", **content["datamodule_hyper_parameters"]},
        data={**OPTIONAL, **content["NamesDataModule"]},
        global_step=content["global_step"],
        weights=content["state_dict"],
    )
    checkpoint.load_model()  # what cannot be loaded is refused before a command has begun its work
    _expect_sound_data(checkpoint)
    return checkpoint


def _add_vocabulary(path: Path, content: dict[str, Any], characters: str) -> None:
    """Put what a checkpoint without data does not know into its content."""
    vocabulary, model = Vocabulary(characters), content.get("hyper_parameters")
    known = content.get("NamesDataModule")
    if isinstance(known, dict) and known.get("characters") != vocabulary.characters:
        raise RequestError(
            f"vocabulary: {path} has one of its own, {describe_characters(str(known.get('characters')))}"
        )
    if known is not None or not isinstance(model, dict):
        return
    if len(vocabulary) != model.get("vocab_size"):
        raise RequestError(
            f"vocabulary: {len(vocabulary) - 1} different characters and the boundary; "
            f"the model of {path} has {model.get('vocab_size')} ids"
        )
    content["datamodule_hyper_parameters"] = {"path": "", "block_size": model.get("block_size")}
    content["NamesDataModule"] = {
        "characters": vocabulary.characters,
        "list_name": "",
        "list_sha256": "",
        "longest_name": LONGEST_NAME,
    }


def _verify_checksums(path: Path) -> None:
    """Raise ValueError for a damaged member of the archive. PyTorch would read a flipped weight like any."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        require_memory(3 * size, f"{path}: 3 × {size:,} bytes of tensors")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged!r} is wrong")


def is_of_type(value: object, hint: Any) -> bool:
    """Tell whether a value is of the type of an argument: a class, several, one of some values, or a list."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(is_of_type(inner, get_args(hint)[0]) for inner in value)
    if get_origin(hint) in (Union, UnionType):
        return any(is_of_type(value, one) for one in get_args(hint))
    return isinstance(value, hint)


def _expect_sound_data(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError where arguments or state of the data cannot be used or do not fit the model."""
    types = get_type_hints(NamesDataModule.__init__)
    arguments, data, model = checkpoint.data_arguments, checkpoint.data, checkpoint.model_arguments
    # By name, whether it can be used; the arguments first, since the rest compares them.
    sound = {str(name): is_of_type(value, types.get(name, ())) for name, value in arguments.items()}
    sound["context"] = arguments.get("block_size") == model["block_size"]
    sound |= {name: is_sound(name, data.get(name)) for name in STATE}
    n_labels = model.get("n_labels", 0)
    sizes = {"characters": model["vocab_size"] - 1, "labels": n_labels, "label_shares": n_labels}
    sound |= {name: sound[name] and len(data[name]) == size for name, size in sizes.items()}
    sound["vocabulary"] = sound.pop("characters")
    for name, is_usable in sound.items():
        if not is_usable:
            raise CheckpointError(f"{checkpoint.path}: damaged ({name[:40]} of the data)")
