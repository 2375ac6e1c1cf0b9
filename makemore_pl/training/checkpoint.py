"""Reading checkpoints back: safely, and with an error that says what is wrong with one."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from makemore_pl.errors import CheckpointError, MakemoreError
from makemore_pl.training.model import BatchNormMLP
from makemore_pl.training.module import LitBatchNormMLP

_REQUIRED = (
    "global_step",
    "state_dict",
    "hyper_parameters",
    "datamodule_hyper_parameters",
    "NamesDataModule",
)


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
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{self.path}: its weights do not fit its arguments ({reason})") from error
        return module.net.float().eval()


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint of this project. Only tensors and plain values are unpickled, never code.

    Raises:
        CheckpointError: missing, damaged, or written by another program.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except IsADirectoryError as error:
        raise CheckpointError(
            f"{path}: a folder, not a checkpoint; did you mean {path / 'best.ckpt'}?"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        what = "not a checkpoint"
        if zipfile.is_zipfile(path):
            what = "refused: it holds more than tensors and plain values, and reading that could run code"
        raise CheckpointError(f"{path}: {what}") from error
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from error
    missing = [key for key in _REQUIRED if not isinstance(content, dict) or key not in content]
    if missing:
        raise CheckpointError(f"{path}: not a checkpoint of this program (it lacks {', '.join(missing)})")
    return Checkpoint(
        path,
        content["hyper_parameters"],
        content["datamodule_hyper_parameters"],
        content["NamesDataModule"],
        content["global_step"],
        content["state_dict"],
    )
