"""Reading checkpoints back: safely, and with an error that says what is wrong with one."""

import inspect
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import CheckpointError, MakemoreError
from makemore_pl.files import file_size
from makemore_pl.memory import require_memory
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.runtime.metadata import MAX_LENGTH, is_count, is_vocabulary

_REQUIRED = {
    "global_step": int,
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "NamesDataModule": dict,
}
"""What every checkpoint of this program holds, and of which type."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run's checkpoint says of its model and its data.

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
    weights: Mapping[str, torch.Tensor]

    def load_model(self) -> BatchNormMLP:
        """The trained network, float32, on the CPU, in eval mode.

        Raises:
            CheckpointError: weights and arguments do not fit each other.
        """
        try:
            module = LitBatchNormMLP(**self.model_arguments)
            module.load_state_dict(dict(self.weights))
        except (MakemoreError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{self.path}: its weights do not fit its arguments ({reason})") from error
        return module.net.float().eval()


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint of this project. Only tensors and plain values are unpickled, never code.

    Raises:
        CheckpointError: missing, damaged, or written by another program.
        MemoryLimitError: it would take too much memory.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder, not a checkpoint; did you mean {path / 'best.ckpt'}?")
    _expect_sound_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: it holds more than tensors and plain values, and reading that could run code"
        ) from error
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from error
    missing = [key for key in _REQUIRED if not isinstance(content, dict) or key not in content]
    if missing:
        raise CheckpointError(f"{path}: not a checkpoint of this program (it lacks {', '.join(missing)})")
    for key, expected in _REQUIRED.items():
        if not isinstance(content[key], expected):
            raise CheckpointError(f"{path}: damaged ({key} is no {expected.__name__})")
    checkpoint = Checkpoint(
        path,
        content["hyper_parameters"],
        content["datamodule_hyper_parameters"],
        content["NamesDataModule"],
        content["global_step"],
        content["state_dict"],
    )
    _expect_sound_data(checkpoint)
    _expect_sound_weights(checkpoint)
    return checkpoint


def _expect_sound_archive(path: Path) -> None:
    """A checkpoint is a ZIP archive whose members are stored as they are, each with its checksum.

    PyTorch does not look at the checksums: a damaged weight would be read like any other.
    """
    file_size(path, CheckpointError)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            require_memory(3 * size, f"{path}: 3 × {size:,} bytes of tensors")
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise CheckpointError(f"{path}: not a checkpoint (a compressed archive)")
            damaged = archive.testzip()
    except MakemoreError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            starts_as_one = file.read(2) == b"PK"
        what = "damaged, or cut short" if starts_as_one else "not a checkpoint"
        raise CheckpointError(f"{path}: {what}") from error
    except Exception as error:  # a damaged archive raises whatever its bytes lead to
        raise CheckpointError(f"{path}: damaged ({type(error).__name__})") from error
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged (the checksum of {damaged!r} is wrong)")


def _expect_sound_data(checkpoint: Checkpoint) -> None:
    """Arguments that model and data know, of plain types; and a description of the list that can be used.

    Raises:
        CheckpointError: anything else.
    """
    known_of_model = _parameters(LitBatchNormMLP) | _parameters(BatchNormMLP)
    for arguments, known in (
        (checkpoint.model_arguments, known_of_model),
        (checkpoint.data_arguments, _parameters(NamesDataModule)),
    ):
        for name, value in arguments.items():
            if name not in known:
                raise CheckpointError(f"{checkpoint.path}: damaged (an unknown argument {str(name)[:40]!r})")
            if not isinstance(value, bool | int | float | str | None):
                raise CheckpointError(f"{checkpoint.path}: damaged ({name} is a {type(value).__name__})")
    for name, arguments in (
        ("vocab_size", checkpoint.model_arguments),
        ("block_size", checkpoint.model_arguments),
        ("block_size", checkpoint.data_arguments),
    ):
        if not is_count(arguments.get(name)):
            raise CheckpointError(f"{checkpoint.path}: damaged ({name}: {str(arguments.get(name))[:40]})")
    if not _is_sound_list(checkpoint.data, checkpoint.model_arguments["vocab_size"]):
        raise CheckpointError(f"{checkpoint.path}: damaged (what it says of its list)")


def _is_sound_list(data: dict[str, Any], vocab_size: int) -> bool:
    characters, longest = data.get("characters"), data.get("longest_name")
    return (
        is_vocabulary(characters)
        and len(characters) + 1 == vocab_size
        and all(isinstance(data.get(key), str) for key in ("list_name", "list_sha256"))
        and is_count(longest)
        and longest <= MAX_LENGTH
        and isinstance(data.get("order_seed"), int | None)
    )


def _expect_sound_weights(checkpoint: Checkpoint) -> None:
    """Tensors of numbers, each as large as its memory.

    Raises:
        CheckpointError: anything else; NaN and infinity are what training leaves that has gone astray.
    """
    for name, value in checkpoint.weights.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise CheckpointError(f"{checkpoint.path}: damaged ({str(name)[:40]} is no dense tensor)")
        # Strides of 0 let a few bytes pass for any number of weights.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{checkpoint.path}: damaged ({name} is larger than its memory)")
        if not value.isfinite().all():
            raise CheckpointError(
                f"{checkpoint.path}: {name} holds values that are no numbers: training has diverged, "
                "or the file is damaged; a lower model.lr may help"
            )


def _parameters(function: type) -> set[str]:
    return set(inspect.signature(function).parameters) - {"network"}
