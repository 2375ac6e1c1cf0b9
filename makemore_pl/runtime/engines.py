"""The two kinds of exported file behind one interface: ids and names from uniform draws."""

from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from makemore_pl.errors import ModelFileError
from makemore_pl.model_info import MODEL_FILE, ModelInfo, newest_export
from makemore_pl.runtime.decoding import Decoding, sample_stepwise
from makemore_pl.runtime.session import expect_signature, open_session


class Engine(Protocol):
    """Anything that turns uniforms into names."""

    info: ModelInfo

    def generate(
        self, uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Code points int32 (n, length), 0 after the end, and log_prob float32 (n,) of n names.

        Args:
            uniforms: float32 (n, steps), one draw per character.
            prefix: int64 (p,), ids at the start of every name.
            decoding: how each character is drawn.
        """


class NextCharacterModel:
    """`model.onnx`: logits of the next character; names are drawn step by step with NumPy."""

    def __init__(self, session: ort.InferenceSession, info: ModelInfo, path: Path) -> None:
        vocab_size = len(info.characters) + 1
        expect_signature(session, path, {"context": [None, info.block_size]}, {"logits": [None, vocab_size]})
        self.info = info
        self._session = session
        # Code point of each id, 0 for the boundary.
        self._codepoints = np.concatenate([[0], info.vocabulary.codepoints]).astype(np.int32)

    def next_logits(self, context: NDArray[np.int64]) -> NDArray[np.float32]:
        """context int64 (n, T) -> logits float32 (n, V)."""
        logits: NDArray[np.float32] = self._session.run(["logits"], {"context": context})[0]
        return logits

    def generate(
        self, uniforms: NDArray[np.float32], prefix: NDArray[np.int64], decoding: Decoding
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        tokens, log_prob = sample_stepwise(self.next_logits, self.info.block_size, uniforms, prefix, decoding)
        return self._codepoints[tokens], log_prob


def open_next_character_model(path: Path) -> NextCharacterModel:
    """Open a `model.onnx`.

    Raises:
        ModelFileError: missing, damaged, or not one of ours.
    """
    session = open_session(path)
    info = ModelInfo.from_metadata(session.get_modelmeta().custom_metadata_map, path)
    return NextCharacterModel(session, info, path)


def resolve_model(model: Path | str | None) -> Path:
    """Path of the file that `model` stands for: a file, an export's folder, or None for the newest export.

    Raises:
        ModelFileError: None was given and nothing has been exported yet, or the folder holds no export.
    """
    path = newest_export() if model is None else Path(model)
    if not path.is_dir():
        return path
    file = path / MODEL_FILE
    if not file.is_file():
        raise ModelFileError(f"{path}: the folder holds no {MODEL_FILE}")
    return file
