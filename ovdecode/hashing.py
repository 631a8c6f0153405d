"""Randomness without a state: numbers that a key and a place decide, each found without those before it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def absorb(hashes: Hashes, values: NDArray[Any]) -> Hashes:
    """The hashes of what was hashed before and one value more each; 64 bits, the same on every platform.

    One round of the generator SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"),
    with the value mixed into its state. Bijective in either argument. It is no cryptographic hash: who must withstand
    an attacker that collects marked texts needs another one.

    Example:
        >>> [hex(each) for each in absorb(np.zeros(1, np.uint64), np.array([0, 1]))]
        ['0xe220a8397b1dcdaf', '0x910a2dec89025cc1']
    """
    bits = values.view(np.uint64) if values.dtype == np.int64 else values.astype(np.uint64)
    mixed = np.bitwise_xor(hashes, bits)
    mixed += np.uint64(0x9E3779B97F4A7C15)
    shifted = mixed >> np.uint64(30)
    mixed ^= shifted
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= np.right_shift(mixed, np.uint64(27), out=shifted)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= np.right_shift(mixed, np.uint64(31), out=shifted)
    return mixed


def uniforms(hashes: Hashes) -> NDArray[np.float64]:
    """Numbers strictly between 0 and 1, of 52 bits each, of the same shape."""
    numbers: NDArray[np.float64] = (hashes >> np.uint64(12)).astype(np.float64)
    numbers += 0.5
    numbers *= 2.0**-52
    return numbers
