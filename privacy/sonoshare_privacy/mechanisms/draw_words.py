"""Random numbers for the draws of many patients at once: one key a patient, and everything else is a function of it.

Draws choose an image, a mirror, a time and the diffusion noise. What privacy needs of this randomness is that one
patient's numbers say nothing about, and are not moved by, anybody else's. So every sampled patient gets a key of
their own from the operating system, fresh in each step, and their words are a function of that key alone: Philox
4x32-10 (Salmon et al., SC 2011) with the key as its key and the upper half of its counter. Keys are independent, hence
so are the words of two patients, whatever the generator is worth. What utility needs is that words look uniform and
normal numbers normal; Philox passes the usual batteries. Nothing here is noise that privacy rests on: that is
cryptographic (`sonoshare_privacy.mechanisms.discrete_gaussian`).

Promised: the same key gives the same words and numbers, bit for bit, in any place, beside any number of others, on any
device. Every operation below is on integers, a look-up, or one that IEEE 754 rounds correctly; there is no logarithm or
cosine, whose last bit would be the library's.

Not promised: that a second call of `words` with the same keys gives other words. Ask once for all that a draw needs.
"""

import secrets
from functools import lru_cache
from typing import Final

import numpy as np
import torch

KEY_WORDS: Final = 4
_WORD_BITS: Final = 32
_LOW: Final = 0xFFFFFFFF
_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)  # of Philox 4x32, as in the paper
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_ROUNDS: Final = 10
_LANES: Final = 4

_CELL_BITS: Final = 8  # of a float32's mantissa that choose the cell; an octave has 256 cells, off by 2e-6 at most
_MANTISSA_BITS: Final = 23
_OCTAVES: Final = 33
_BIAS: Final = 127


def fresh_keys(count: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Keys of ``count`` patients from the operating system, int64 [count, 4] of 32 bits each; kept nowhere else."""
    drawn = np.frombuffer(secrets.token_bytes(4 * KEY_WORDS * count), dtype="<u4").astype(np.int64)
    return torch.from_numpy(drawn).view(count, KEY_WORDS).to(device)


def public_keys(count: int, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Keys that anybody can make again, for rows that no patient has: probes, and benchmarks on public pictures."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 1 << _WORD_BITS, (count, KEY_WORDS), generator=generator).to(device)


def words(keys: torch.Tensor, count: int) -> torch.Tensor:
    """The first words of each key's stream.

    Args:
        keys: int64 [n, 4] of 32 bits each.
        count: words of each.

    Returns:
        int64 [n, count], uniform on 0..2**32 - 1.
    """
    blocks = -(-count // _LANES)
    lanes = [torch.arange(blocks, dtype=torch.int64, device=keys.device).expand(len(keys), -1).clone()]
    lanes.append(torch.zeros_like(lanes[0]))
    lanes += [keys[:, lane, None].expand(-1, blocks).clone() for lane in (2, 3)]
    key = [keys[:, 0, None], keys[:, 1, None]]
    for turn in range(_ROUNDS):
        # Products of 32 by 32 bits fill 64; read as signed numbers they have the same bits.
        even, odd = lanes[0].mul_(_MULTIPLIERS[0]), lanes[2].mul_(_MULTIPLIERS[1])
        first = (odd >> _WORD_BITS).bitwise_and_(_LOW).bitwise_xor_(lanes[1]).bitwise_xor_(key[0])
        third = (even >> _WORD_BITS).bitwise_and_(_LOW).bitwise_xor_(lanes[3]).bitwise_xor_(key[1])
        lanes = [first, odd.bitwise_and_(_LOW), third, even.bitwise_and_(_LOW)]
        if turn + 1 < _ROUNDS:
            key = [(part + step) & _LOW for part, step in zip(key, _WEYL, strict=True)]
    return torch.stack(lanes, dim=2).view(len(keys), -1)[:, :count]


def integers_below(drawn: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Integers uniform on 0..limit - 1, off by at most limit / 2**32 of their chance.

    Args:
        drawn: words, int64 [n, ...].
        limits: int64 [n], between 1 and 2**31.
    """
    return (drawn * limits.view(-1, *[1] * (drawn.dim() - 1))) >> _WORD_BITS


def coins(drawn: torch.Tensor) -> torch.Tensor:
    """Fair coins, bool of the words' shape."""
    return drawn >= 1 << (_WORD_BITS - 1)


def shares(drawn: torch.Tensor) -> torch.Tensor:
    """Numbers uniform on [0, 1), float64 of the words' shape."""
    return drawn.double() * 2.0**-_WORD_BITS


def normals(drawn: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers, float32 of the words' shape, from one word each; at most 6.3 in size.

    The inverse of the normal distribution function, by its table and a straight line between two entries. Entries lie
    at the float32 numbers of nine leading bits, closer together where the function is steeper.
    """
    lower, slope = _inverse_table(drawn.device)
    # 2 m + 1 of 31 bits m: the upper tail's probability is this over 2**33.
    tail = (drawn << 1).bitwise_and_(_LOW).bitwise_or_(1).float().view(torch.int32)
    within = _MANTISSA_BITS - _CELL_BITS
    cells = ((tail >> within) - (_BIAS << _CELL_BITS)).flatten()
    size = tail.bitwise_and_((1 << within) - 1).float().mul_(2.0**-within).flatten()
    # A product and a sum, each rounded: fused they would have another last bit where a device fuses them.
    size.mul_(slope.index_select(0, cells)).add_(lower.index_select(0, cells))
    sign = (drawn >> (_WORD_BITS - 1)).mul_(-2).add_(1)
    return size.view(drawn.shape).mul_(sign)


@lru_cache(maxsize=8)
def _inverse_table(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Size at the beginning of each cell, and how much it changes over the cell; float32 [cells]."""
    cell = torch.arange((_OCTAVES << _CELL_BITS) + 1, dtype=torch.float64)
    octave = (cell / (1 << _CELL_BITS)).floor()
    start = torch.ldexp(1 + cell / (1 << _CELL_BITS) - octave, octave)
    tail = (start * 2.0 ** -(_WORD_BITS + 1)).clamp_max(0.5)
    size = -torch.special.ndtri(tail)
    return size[:-1].float().to(device), size.diff().float().to(device)
