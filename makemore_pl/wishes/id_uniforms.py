"""Uniforms from ids: the randomness of names that must be the same for the same id, always and everywhere.

The uniform of character i (from 0) of an id's name is word number i mod 16 of block number i div 16, divided
by 2^32, where

    block(b) = BLAKE2b(b as 4 bytes, then the id in UTF-8), 64 bytes long, keyed with the key in UTF-8,

a block is 16 words of 4 bytes, and all numbers are little-endian. An empty key is none. BLAKE2 is RFC 7693.
If the name's label is drawn, too, it has the first uniform, and character i that of number i + 1.
Where names are rejected, attempt number k (from 0) has the blocks from number k · 4,096 on.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = 16
"""Uniforms of one block."""
BLOCKS_PER_ATTEMPT = 4_096
"""For more characters than a name may have."""


class IdUniforms:
    """The uniforms of several ids, hashed as they are needed. Made for one pass from the first character on.

    Args:
        ids: the ids.
        key: at most 64 bytes in UTF-8.
    """

    def __init__(self, ids: Sequence[str], key: str) -> None:
        self._ids = [_encode(text) for text in ids]
        self._key = _encode(key)
        self._words = np.empty((len(ids), WORDS), dtype="<u4")

    def __call__(self, step: int, names: NDArray[np.int64]) -> NDArray[np.float64]:
        """Uniforms float64 (a,) of the character `step`, for some of the names (a,)."""
        block, word = divmod(step, WORDS)
        if word == 0:
            keyed = hashlib.blake2b(block.to_bytes(4, "little"), key=self._key, digest_size=4 * WORDS)
            digests = bytearray()
            for name in names.tolist():
                copy = keyed.copy()
                copy.update(self._ids[name])
                digests += copy.digest()
            self._words[names] = np.frombuffer(digests, dtype="<u4").reshape(-1, WORDS)
        uniforms: NDArray[np.float64] = self._words[names, word] / 2.0**32
        return uniforms


def uniforms_of_attempt(text: str, key: str, steps: int, attempt: int) -> NDArray[np.float32]:
    """Uniforms float32 (1, steps) of an id's attempt. Of each word, the first 24 bits are taken."""
    first = attempt * BLOCKS_PER_ATTEMPT
    digests = b"".join(
        hashlib.blake2b(
            (first + block).to_bytes(4, "little") + _encode(text), key=_encode(key), digest_size=4 * WORDS
        ).digest()
        for block in range(-(-steps // WORDS))
    )
    words = np.frombuffer(digests, dtype="<u4")[None, :steps]
    uniforms: NDArray[np.float32] = (words >> 8).astype(np.float32) / np.float32(1 << 24)
    return uniforms


def _encode(text: str) -> bytes:
    # Bytes of a command line that are not UTF-8 arrive as single surrogates.
    return text.encode("utf-8", "surrogatepass")
