"""Counter-based random numbers: draw j of word w of row r depends only on (key, r, w, j), not on earlier draws.

Threads and processes can therefore sample rows in any order with equal results. The function is the finaliser of
SplitMix64 (Steele, Lea and Flood 2014) over a counter. It is applied once for the row, once for the word in the row,
and once for the draw. The arithmetic is unsigned, with 64 bits and wrap-around. A draw has 32 bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.errors import ConfigError

Keys = NDArray[np.uint64]

STEP = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, odd
MIX1 = 0xBF58476D1CE4E5B9
MIX2 = 0x94D049BB133111EB
WRAP = 2**64 - 1  # bit mask that emulates the overflow of unsigned 64-bit integers
ONE = 1 << 32  # exclusive upper bound of a draw; probabilities are stored as multiples of 1/2**32


def rng_key(seed: int, epoch: int, purpose: int) -> int:
    """Return the 64-bit key of all draws for (seed, epoch, purpose). Raises ConfigError if one of them is negative."""
    if min(seed, epoch, purpose) < 0:
        raise ConfigError(f"seed and epoch are at least 0, but are {seed} and {epoch}. Set seed=0")
    return int(np.random.SeedSequence([seed, epoch, purpose]).generate_state(1, np.uint64)[0])


def draw_threshold(chance: float) -> int:
    """Return the threshold for a probability in [0, 1]: a draw is below the threshold with this probability."""
    return round(chance * ONE)


def derived_keys(key: int | Keys, number: NDArray[Any]) -> Keys:
    """Return the keys of numbered parts (rows, words or draws) of `key`: uint64, in the shape of both broadcast."""
    mixed = (number.astype(np.uint64) + np.uint64(1)) * np.uint64(STEP) + np.asarray(key, dtype=np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(MIX1)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(MIX2)
    return mixed ^ (mixed >> np.uint64(31))


def draws(keys: Keys, number: NDArray[Any]) -> Keys:
    """Return draw number `number` of each key: uint64, below 2**32."""
    return derived_keys(keys, number) >> np.uint64(32)


def draw(key: int, number: int) -> int:
    """Return draw number `number` of one key, equal to that of `draws`."""
    mixed = (key + (number + 1) * STEP) & WRAP
    mixed = (mixed ^ (mixed >> 30)) * MIX1 & WRAP
    mixed = (mixed ^ (mixed >> 27)) * MIX2 & WRAP
    return (mixed ^ (mixed >> 31)) >> 32
