"""Errors a user can cause. The command line prints them as one line and exits with their code."""


class MakemoreError(Exception):
    """Base of all errors that name what was expected and what came instead."""

    exit_code = 2


class DataError(MakemoreError):
    """A list of names that cannot be read, or that does not fit the model."""


class VocabularyError(DataError):
    """A character that the model has never seen."""


class CheckpointError(MakemoreError):
    """A checkpoint that is missing, damaged, or was written by another program."""


class ModelFileError(MakemoreError):
    """An ONNX file that is missing, damaged, or was not exported by this project."""


class RequestError(MakemoreError):
    """An option whose value makes no sense, or a wish that cannot be met."""


class FoldError(MakemoreError):
    """A BatchNorm that cannot be folded into a Linear before it."""


class VerificationError(MakemoreError):
    """Two forms of one model that should agree do not."""

    exit_code = 1
