"""The metadata of an exported file, and the places where exports lie.

The training half writes what the runtime half reads: the two share this and the vocabulary alone.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, get_args

from makemore_pl.context_space import ContextSpace
from makemore_pl.errors import ModelFileError, RequestError
from makemore_pl.text import CASE, NORMALIZE, Case, Normalize, TextRules
from makemore_pl.vocabulary import Vocabulary

FORMAT_VERSION = 1
Form: TypeAlias = Literal["mlp", "fused", "table"]
"""Ways to store a network, see graph/forms.py."""
FORMS: tuple[Form, ...] = get_args(Form)
MAX_LENGTH = 10_000
"""Longest name that may be asked for, in characters."""
MODEL_FILE = "model.onnx"
SAMPLER_FILE = "sampler.onnx"
REPORT_FILE = "verification.json"
INFO_FILE = "model.json"
"""The metadata of `sampler.onnx` once more: onnxruntime-web cannot read them from there."""
TABLE = "weight_table"
"""Name of the tensor of all logits, in files of form `table`."""
RUNS_DIR = Path("checkpoints")

OPTIONAL: dict[str, Any] = {"labels": [], "label_shares": [], "normalize": "none", "case": "keep"}
"""Metadata that older files lack, and what that means."""
MOST_LABELS_SHOWN = 20
"""In an error."""
PREFIX = "makemore."
"""Our keys in the file's metadata_props begin with it, apart from other tools'."""


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of one export. A file's `metadata_props` hold each value as JSON."""

    characters: str  # the vocabulary without the boundary, sorted
    block_size: int  # context length T, in characters
    n_embd: int  # embedding width C
    n_hidden: int  # hidden width H
    n_layers: int  # number of hidden layers
    n_parameters: int  # trainable parameters of the trained model
    form: str  # how the network is stored: mlp, fused or table
    longest_name: int  # characters of the longest name of the training list
    list_name: str
    list_sha256: str  # of the training list's bytes, hexadecimal
    export_id: str  # the same in all files of one export, another for other weights
    versions: dict[str, str] = field(default_factory=dict)  # of the libraries that wrote the file
    verification: dict[str, Any] = field(default_factory=dict)  # summary of the proof
    format_version: int = FORMAT_VERSION  # of this layout
    labels: list[str] = field(default_factory=list)  # by number; none where names have no labels
    label_shares: list[float] = field(default_factory=list)  # of each label among the training names
    normalize: Normalize = "none"  # how names were normalised before training
    case: Case = "keep"  # and what became of capitals

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The characters and their ids."""
        return Vocabulary(self.characters)

    @property
    def space(self) -> ContextSpace:
        """All contexts that the network can be given."""
        return ContextSpace(len(self.vocabulary), self.block_size, len(self.labels))

    @property
    def text_rules(self) -> TextRules:
        """The rules that bring a text into the spelling of the training names."""
        return TextRules(self.normalize, self.case)

    def label_id(self, label: str) -> int:
        """The id of a label, V + its number; the label may be in another spelling.

        Raises:
            RequestError: the model has no such label, or none at all.
        """
        spelled = self.text_rules.spelled(label)
        if spelled in self.labels:
            return len(self.vocabulary) + self.labels.index(spelled)
        if not self.labels:
            raise RequestError(f"label: the model's names have no labels, so not {label!r:.60} either")
        from difflib import get_close_matches  # for errors alone

        folded = {known.casefold(): known for known in self.labels}
        meant = [f"; did you mean {folded[m]!r}?" for m in get_close_matches(label.casefold(), folded, 1)]
        shown = ", ".join(self.labels[:MOST_LABELS_SHOWN])
        more = f" and {len(self.labels) - MOST_LABELS_SHOWN} more" * (len(self.labels) > MOST_LABELS_SHOWN)
        raise RequestError(f"label: {label!r:.60} is none of {shown}{more}{''.join(meant)}")

    def to_metadata(self) -> dict[str, str]:
        """The entries of a file's `metadata_props`; optional ones only if not as by default."""
        return {
            PREFIX + key: json.dumps(value)
            for key, value in asdict(self).items()
            if key not in OPTIONAL or value != OPTIONAL[key]
        }

    def to_json(self) -> str:
        """The content of `model.json`; null for NaN and infinite, which other languages do not read."""
        values = json.loads(json.dumps(asdict(self)), parse_constant=lambda name: None)
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], source: Path) -> "ModelInfo":
        """Read a file's metadata_props back.

        Raises:
            ModelFileError: keys are missing, malformed, or of a newer format.
        """
        version = metadata.get(PREFIX + "format_version")
        if version is None:
            raise ModelFileError(f"{source}: not exported by makemore (no format version in its metadata)")
        if version != str(FORMAT_VERSION):
            raise ModelFileError(
                f"{source}: format version {version}; this program reads {FORMAT_VERSION}; export it again"
            )
        missing = [f.name for f in fields(cls) if f.name not in OPTIONAL and PREFIX + f.name not in metadata]
        if missing:
            raise ModelFileError(
                f"{source}: no {missing[0]} in its metadata: damaged, or of an earlier version; "
                "export it again"
            )
        try:
            values = {
                f.name: json.loads(metadata[PREFIX + f.name])
                for f in fields(cls)
                if PREFIX + f.name in metadata
            }
        except (ValueError, RecursionError) as error:
            raise ModelFileError(
                f"{source}: damaged metadata ({type(error).__name__}: {str(error)[:80]})"
            ) from error
        for name, value in values.items():
            if not is_sound(name, value):
                raise ModelFileError(f"{source}: damaged metadata ({name}: {value!r:.80})")
        info = cls(**values)
        if len(info.labels) != len(info.label_shares):
            raise ModelFileError(f"{source}: damaged metadata (label_shares: {info.label_shares!r:.80})")
        return info


def is_sound(name: str, value: object) -> bool:
    """Tell whether a model's metadata of this name can have this value."""
    return (_BY_NAME.get(name) or _BY_TYPE[_TYPES[name]])(value)


def _is_count(value: object) -> TypeGuard[int]:
    """Tell whether a value is a size, a length or a number of things: at least 1."""
    # In Python True is an int; JSON has it apart from numbers.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_vocabulary(value: object) -> bool:
    """Tell whether a value is a vocabulary's characters in their order, without NUL and line ends."""
    if not isinstance(value, str) or not _is_text(value):
        return False
    return bool(value) and list(value) == sorted(set(value)) and not {"\0", "\n", "\r"} & set(value)


def _is_labels(value: object) -> bool:
    """Tell whether a value is a list of different labels, perhaps none."""
    return (
        isinstance(value, list)
        and all(_is_text(label) and label for label in value)
        and len(set(value)) == len(value)
    )


def _is_shares(value: object) -> bool:
    """Tell whether a value is a list of shares that make up a whole; or none."""
    if not isinstance(value, list) or not all(isinstance(x, float) and x >= 0 for x in value):
        return False
    return not value or (isfinite(sum(value)) and abs(sum(value) - 1) < 1e-6)


def _is_proof(value: object) -> bool:
    """Tell whether a value is a verification's summary, or empty: not verified yet."""
    if not isinstance(value, dict) or not value:
        return isinstance(value, dict)
    counts = [value.get(key) for key in ("contexts", "contexts_total")]
    return all(map(_is_count, counts)) and isinstance(value.get("largest_deviation"), float | int)


_TYPES = {f.name: f.type for f in fields(ModelInfo)}
_BY_TYPE: dict[Any, Callable[[object], bool]] = {int: _is_count, str: _is_text}
_BY_NAME: dict[str, Callable[[object], bool]] = {
    "characters": _is_vocabulary,
    "form": lambda value: value in FORMS,
    "labels": _is_labels,
    "label_shares": _is_shares,
    "normalize": lambda value: value in NORMALIZE,
    "case": lambda value: value in CASE,
    "longest_name": lambda value: _is_count(value) and value <= MAX_LENGTH,
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, [*value, *value.values()])),
    "verification": _is_proof,
}


def find_model(model: Path | str | None, *names: str) -> Path:
    """The file that a user means by a file, by the folder of an export, or by None: the newest export.

    Args:
        model: what the user has given.
        names: files to look for in a folder, the first that exists.

    Raises:
        ModelFileError: nothing has been exported yet, or the folder holds no export.
    """
    path = newest_export() if model is None else Path(model)
    if not path.is_dir():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    raise ModelFileError(f"{path}: the folder holds no {MODEL_FILE}")


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


def modified(path: Path) -> float:
    """Time of a file's last change; 0.0 for a file that another process has just removed."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
