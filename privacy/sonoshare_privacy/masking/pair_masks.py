"""Masks that cancel: of every pair of hospitals one adds and the other subtracts the same random words, modulo 2^64.

Precondition: each pair has its own secret for this very sum (``agreement``), used for nothing else.

Claims (docs/proofs/masked-sums.md):
- The sum of the masked words of *all* hospitals of the set is the sum of their words modulo 2^64, bit by bit, for any
  words and any number of hospitals.
- Any masked words of a set from which the words of one honest hospital are missing are, to who knows no secret between
  honest hospitals, uniform and independent of what the honest hospitals' words were. With all of them there, exactly
  the sum over the honest ones is learned, and nothing else.
The second rests on AES-256 in counter mode, whose words cannot be told from random ones.

Not promised: anything about words that are masked twice under the same secrets. Who calls sees to it that a hospital
gives out masked words of a round once.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from sonoshare_privacy.masking.fixed_point import Words
from sonoshare_shared.errors import InputError, IntegrityError

WORD_BYTES: Final = 8
_BLOCK_WORDS: Final = 1 << 14  # 128 KiB: a block and its mask stay in the processor's cache
_AES_BLOCK_BYTES: Final = 16
_WIRE: Final = np.dtype("<u8")


def masked(words: Words, own: str, secrets: Mapping[str, bytes]) -> Words:
    """Words of one hospital under its masks with all the others of the set.

    Args:
        words: uint64 [n].
        own: id of the hospital.
        secrets: secret with each other hospital of the set, by id; every pair's is used in this one call alone.

    Raises:
        InputError: there is no other hospital, or this one is among the others.
    """
    if not secrets or own in secrets:
        raise InputError("a mask is for a hospital and at least one other")
    streams = [(own < other, _stream(secret)) for other, secret in sorted(secrets.items())]
    hidden = words.copy()
    zeros = bytes(WORD_BYTES * _BLOCK_WORDS)
    raw = bytearray(len(zeros) + _AES_BLOCK_BYTES)
    mask = np.frombuffer(raw, dtype=_WIRE, count=_BLOCK_WORDS)
    for start in range(0, len(hidden), _BLOCK_WORDS):
        block = hidden[start : start + _BLOCK_WORDS]
        for adds, stream in streams:
            stream.update_into(zeros, raw)
            (np.add if adds else np.subtract)(block, mask[: len(block)], out=block)
    return hidden


class RunningSum:
    """Sum of words modulo 2^64, as they come."""

    def __init__(self) -> None:
        self._total: Words | None = None

    def add(self, words: Words) -> None:
        """Add one hospital's words.

        Raises:
            InputError: they are more or fewer than those before.
        """
        if self._total is None:
            self._total = words.copy()
        elif len(words) != len(self._total):
            raise InputError("words of different lengths have no sum")
        else:
            np.add(self._total, words, out=self._total)

    @property
    def total(self) -> Words:
        """The sum so far.

        Raises:
            InputError: nothing was added.
        """
        if self._total is None:
            raise InputError("nothing has no sum")
        return self._total


def summed(parts: Iterable[Words]) -> Words:
    """Sum of words modulo 2^64.

    Raises:
        InputError: there are none, or they are of different lengths.
    """
    running = RunningSum()
    for words in parts:
        running.add(words)
    return running.total


def to_bytes(words: Words) -> bytes:
    """Words as they travel and are stored: eight bytes each, the lowest first."""
    return words.astype(_WIRE, copy=False).tobytes()


def from_bytes(data: bytes, count: int) -> Words:
    """Words that travelled.

    Args:
        data: the bytes.
        count: how many there must be.

    Raises:
        IntegrityError: there are more or fewer.
    """
    if len(data) != WORD_BYTES * count:
        raise IntegrityError(f"{len(data)} bytes are not {count} masked numbers", remedy="it is left out whole")
    return np.frombuffer(data, dtype=_WIRE).astype(np.uint64, copy=sys.byteorder == "big")


def _stream(secret: bytes) -> CipherContext:
    # A key of its own for each stream, so the counter may begin at zero.
    return Cipher(algorithms.AES(secret), modes.CTR(bytes(_AES_BLOCK_BYTES))).encryptor()
