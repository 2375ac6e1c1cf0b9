"""Uniforms from ids: the randomness of names that must be the same for the same id, always and everywhere.

Character number i (from 0) of an id's name is drawn with

    uniform(i) = w / 2^32,   w = word number i mod 16 of block i div 16,
    block(b)   = BLAKE2b(b as 4 bytes, then the id in UTF-8), 64 bytes long, keyed with the key in UTF-8,

where a block is 16 words of 4 bytes, and all numbers are little-endian. An empty key is none. BLAKE2 is
RFC 7693.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = 16
"""Uniforms of one hash."""


class IdUniforms:
    """The uniforms of several ids, hashed as they are needed. Made for one pass from the first character on.

    Args:
        ids: the ids.
        key: at most 64 bytes in UTF-8.
    """

    def __init__(self, ids: Sequence[str], key: str) -> None:
        # Bytes of a command line that are not UTF-8 arrive as single surrogates.
        self._ids = [text.encode("utf-8", "surrogatepass") for text in ids]
        self._key = key.encode("utf-8", "surrogatepass")
        self._words = np.zeros((len(ids), WORDS), dtype="<u4")

    def __call__(self, step: int, names: NDArray[np.int64]) -> NDArray[np.float64]:
        """Uniforms float64 (a,) of the character `step`, for some of the names (a,)."""
        block, word = divmod(step, WORDS)
        if word == 0:
            number = block.to_bytes(4, "little")
            keyed = hashlib.blake2b(number, key=self._key, digest_size=4 * WORDS)
            digests = bytearray()
            for name in names.tolist():
                copy = keyed.copy()
                copy.update(self._ids[name])
                digests += copy.digest()
            self._words[names] = np.frombuffer(digests, dtype="<u4").reshape(-1, WORDS)
        uniforms: NDArray[np.float64] = self._words[names, word] / 2.0**32
        return uniforms
