"""What an exported file says of itself: its metadata, and where the files of an export lie.

The training half writes it, the runtime half reads it; this is the only thing the two share besides
the vocabulary.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, get_args

from makemore_pl.errors import ModelFileError
from makemore_pl.vocabulary import Vocabulary

FORMAT_VERSION = 1
Form: TypeAlias = Literal["mlp", "fused", "table"]
"""How a network is stored, see export/forms.py."""
MAX_LENGTH = 10_000
"""Longest name that may be asked for, in characters."""
MODEL_FILE = "model.onnx"
SAMPLER_FILE = "sampler.onnx"
REPORT_FILE = "verification.json"
RUNS_DIR = Path("checkpoints")

_PREFIX = "makemore."  # our keys in the file's metadata_props, apart from other tools'


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of one export. Every value is stored as JSON text in the file's `metadata_props`.

    Attributes:
        characters: the vocabulary without the boundary, sorted.
        block_size: context length T, in characters.
        n_embd: embedding width C.
        n_hidden: hidden width H.
        n_layers: number of hidden layers.
        n_parameters: trainable parameters of the trained model.
        form: how the network is stored: mlp, fused or table.
        longest_name: length of the longest name of the training list, in characters.
        list_name: name of the training list.
        list_sha256: SHA-256 of the training list's bytes, hexadecimal.
        export_id: the same in all files of one export, different between exports of other weights.
        versions: versions of the libraries that wrote the file.
        verification: summary of the proof that this file equals the trained model.
        format_version: version of this layout.
    """

    characters: str
    block_size: int
    n_embd: int
    n_hidden: int
    n_layers: int
    n_parameters: int
    form: str
    longest_name: int
    list_name: str
    list_sha256: str
    export_id: str
    versions: dict[str, str] = field(default_factory=dict)
    verification: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.characters)

    def to_metadata(self) -> dict[str, str]:
        return {_PREFIX + key: json.dumps(value) for key, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], source: Path) -> "ModelInfo":
        """Read it back.

        Args:
            metadata: the file's metadata_props.
            source: the file, for the error message.

        Raises:
            ModelFileError: keys are missing, malformed, or of a newer format.
        """
        version = metadata.get(_PREFIX + "format_version")
        if version is None:
            raise ModelFileError(
                f"{source}: not exported by makemore (its metadata lacks {_PREFIX}format_version)"
            )
        if version != str(FORMAT_VERSION):
            raise ModelFileError(f"{source}: format version {version}; this program reads {FORMAT_VERSION}")
        try:
            values = {f.name: json.loads(metadata[_PREFIX + f.name]) for f in fields(cls)}
        except (KeyError, ValueError, RecursionError) as error:
            raise ModelFileError(
                f"{source}: damaged metadata ({type(error).__name__}: {str(error)[:80]})"
            ) from error
        for name, value in values.items():
            if not _IS_SOUND[name](value):
                raise ModelFileError(f"{source}: damaged metadata ({name}: {repr(value)[:80]})")
        return cls(**values)


def modified(path: Path) -> float:
    """When a file was last written; 0.0 for one that has just gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def is_count(value: object) -> TypeGuard[int]:
    """A size, a length, a number of things: at least 1."""
    # A truth value is an int in Python, but no number in JSON.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def is_vocabulary(value: object) -> TypeGuard[str]:
    """A vocabulary's characters in its order, none of them one that ends a line or a name in a list."""
    if not isinstance(value, str) or not _is_text(value):
        return False
    return bool(value) and list(value) == sorted(set(value)) and not {"\0", "\n", "\r"} & set(value)


def _is_proof(value: object) -> bool:
    """A summary that can be shown, or none yet."""
    if not isinstance(value, dict) or not value:
        return isinstance(value, dict)
    counts = [value.get(key) for key in ("contexts", "contexts_total")]
    return all(map(is_count, counts)) and isinstance(value.get("largest_deviation"), float | int)


_IS_SOUND: dict[str, Callable[[object], bool]] = {
    "characters": is_vocabulary,
    "block_size": is_count,
    "n_embd": is_count,
    "n_hidden": is_count,
    "n_layers": is_count,
    "n_parameters": is_count,
    "form": lambda value: value in get_args(Form),
    "longest_name": lambda value: is_count(value) and value <= MAX_LENGTH,
    "list_name": _is_text,
    "list_sha256": _is_text,
    "export_id": _is_text,
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, [*value, *value.values()])),
    "verification": _is_proof,
    "format_version": is_count,
}


def newest_export(runs_dir: Path = RUNS_DIR) -> Path:
    """Folder of the newest export below `runs_dir`.

    Raises:
        ModelFileError: there is none.
    """
    models = sorted(runs_dir.glob(f"[!.]*/{MODEL_FILE}"), key=modified)
    if not models:
        raise ModelFileError(
            f"no export found under {runs_dir}/: train one with 'makemore fit', or name a model file"
        )
    return models[-1].parent
