"""The metadata of an exported file: all that follows from the checkpoint is compared with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import isclose
from typing import Any

from makemore_pl.errors import VerificationError
from makemore_pl.exported.metadata import PREFIX, Form, ModelInfo
from makemore_pl.proof.network_reader import StoredFile

OF_EACH_FILE = ("versions", "verification")
"""Metadata that do not follow from the checkpoint: the libraries that wrote the file, and its proof."""


def expect_same_info(stored: StoredFile, info: ModelInfo, form: Form) -> None:
    """Compare a file's metadata with what is written for its checkpoint, text by text.

    Args:
        stored: the file.
        info: the metadata due.
        form: as found in the file's graph.

    Raises:
        VerificationError: a value is another one, or stands there twice.
    """
    due = replace(info, form=form, **{key: getattr(stored.info, key) for key in OF_EACH_FILE})
    for key, value in asdict(due).items():
        found = getattr(stored.info, key)
        if found != value:
            raise VerificationError(
                f"{stored.path}: of another model ({key} is {found!r}, expected {value!r})"
            )
    # ONNX Runtime might read another one of two, or 3.0 for 3.
    props = Counter((p.key, p.value) for p in stored.model.metadata_props if p.key.startswith(PREFIX))
    other = props - Counter(due.to_metadata().items())
    if other:
        (key, text), *_ = other
        raise VerificationError(f"{stored.path}: metadata of another model ({key}: {text!r:.80})")


def expect_same_claim(
    stored: StoredFile, report: dict[str, Any], bounds: Sequence[float | None], tolerance: float
) -> None:
    """Compare the proof that a file's metadata tells of with the one just made.

    Args:
        stored: the file.
        report: summary of the proof just made. A value of None, but for the bound, cannot be known again.
        bounds: of the certificate, for each form that the export's `model.onnx` may have.
        tolerance: of a logit in float32. The largest deviation seen is the exporting machine's own: it may be
            anything up to that.

    Raises:
        VerificationError: the file claims another proof.
    """

    def is_right(key: str, claimed: Any) -> bool:
        if key == "largest_deviation":
            return isinstance(claimed, float) and 0 <= claimed <= tolerance
        if key == "bound":  # another machine sums in another order
            return any(_is_close(claimed, bound) for bound in bounds)
        return type(claimed) is int if report[key] is None else claimed == report[key]

    claim = stored.info.verification
    wrong = [key for key in report if key not in claim or not is_right(key, claim[key])]
    wrong += [key for key in claim if key not in report]
    if wrong:
        raise VerificationError(
            f"{stored.path}: its metadata tells of another proof ({wrong[0]}: {claim.get(wrong[0])!r:.80})"
        )


def _is_close(claimed: Any, bound: float | None) -> bool:
    if bound is None:
        return claimed is None
    return isinstance(claimed, float) and isclose(claimed, bound, rel_tol=1e-6)
