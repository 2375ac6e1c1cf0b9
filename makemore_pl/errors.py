"""Errors that a user can cause. The command line prints them as one line and exits with their code.

All of them can be pickled, so that they reach the caller from a process of a pool.
"""

from collections.abc import Sequence
from typing import Any


def _without_init(kind: type["MakemoreError"], args: tuple[Any, ...]) -> "MakemoreError":
    return kind.__new__(kind, *args)


class MakemoreError(Exception):
    """Base of all errors that name what was expected and what came instead."""

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        # Made again without `__init__`, whatever a subclass's own takes.
        return _without_init, (type(self), self.args), vars(self)


class DataError(MakemoreError):
    """A list of names that cannot be read, or that does not fit the model."""


class VocabularyError(DataError):
    """A character that the model has never seen."""


class CheckpointError(MakemoreError):
    """A checkpoint that is missing, damaged, or was written by another program."""


class ModelFileError(MakemoreError):
    """An ONNX file that is missing, damaged, or was not exported by this project."""


class RequestError(MakemoreError):
    """An option out of its range, or a request that cannot be met."""


class TooFewNamesError(RequestError):
    """Fewer names passed the filters than were asked for; `names` holds those found, if they were kept."""

    exit_code = 1

    def __init__(self, wanted: int, found: int, names: Sequence[str] = ()) -> None:
        super().__init__(
            f"found {found:,} of {wanted:,} names; many more draws brought no other that fits the request"
        )
        self.names = names


class NotExactError(RequestError):
    """A wish for which names cannot be drawn without rejecting some; the message says why."""


class RejectionWarning(UserWarning):
    """Names are drawn without regard to a wish, or to part of it, and rejected; the message says why."""


class MemoryLimitError(MakemoreError):
    """Something that would take more memory than the limit allows."""


class MissingPackageError(MakemoreError):
    """A package that is not installed, though `what` needs it; the extra of that name brings it."""

    def __init__(self, what: str, package: str | None, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package}: pip install 'makemore-pl[{extra}]', "
            f"or in a clone: pip install -e '.[{extra}]'"
        )


class FoldError(MakemoreError):
    """A BatchNorm that cannot be folded into a Linear before it."""


class VerificationError(MakemoreError):
    """Two forms of one model that should agree and do not."""

    exit_code = 1
