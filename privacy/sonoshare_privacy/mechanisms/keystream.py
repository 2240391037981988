"""Uniform bits for whatever privacy rests on: AES-256 in counter mode under a key that lives for one object.

Key and counter come from ``os.urandom`` and are stored nowhere else. There is no seed and no way to draw the same
bits again. Promised, as long as AES with a random key cannot be told from random bits: words are independent and
uniform. Not promised: constant time.
"""

import os
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

WORD_BYTES: Final = 8
_AES_BLOCK_BYTES: Final = 16
_KEY_BYTES: Final = 32


class Keystream:
    """Cryptographic 64-bit words under a fresh key, in blocks of one size.

    Args:
        size: words that a call of `advance` gives.
    """

    def __init__(self, size: int) -> None:
        cipher = Cipher(algorithms.AES(os.urandom(_KEY_BYTES)), modes.CTR(os.urandom(_AES_BLOCK_BYTES)))
        self._encryptor = cipher.encryptor()
        self._zeros = bytes(WORD_BYTES * size)
        self._raw = bytearray(WORD_BYTES * size + _AES_BLOCK_BYTES)
        self._words: NDArray[np.uint64] = np.frombuffer(self._raw, dtype=np.uint64, count=size)

    def advance(self) -> NDArray[np.uint64]:
        """The next words, uint64 [size]; the memory is the same in every call."""
        self._encryptor.update_into(self._zeros, self._raw)
        return self._words


def random_words(count: int) -> NDArray[np.uint64]:
    """Cryptographic 64-bit words under a fresh key, uint64 [count]."""
    return Keystream(count).advance()
