"""Random numbers by position instead of in turn: draw j of word w of row r is a function of (key, r, w, j) alone.

So rows can be sampled in any order, by any number of threads and processes, and come out the same. The function is the
finaliser of SplitMix64 (Steele, Lea and Flood 2014) over a counter, once for the row, once for the word in it, once for
the draw; all in unsigned 64-bit arithmetic, which wraps. A draw has 32 bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.errors import ConfigError

Keys = NDArray[np.uint64]

STEP = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, odd
MIX1 = 0xBF58476D1CE4E5B9
MIX2 = 0x94D049BB133111EB
WRAP = 2**64 - 1
ONE = 1 << 32  # a draw is below it; chances are stated in shares of it


def key_of(seed: int, epoch: int, purpose: int) -> int:
    """Return the key of all draws for (seed, epoch, purpose), each at least 0: 64 bits. Raises ConfigError."""
    if min(seed, epoch, purpose) < 0:
        raise ConfigError(f"seed and epoch are at least 0, but are {seed} and {epoch}. Set seed=0")
    return int(np.random.SeedSequence([seed, epoch, purpose]).generate_state(1, np.uint64)[0])


def share(chance: float) -> int:
    """Return `chance`, in [0, 1], as a whole number: a draw is below it that often."""
    return round(chance * ONE)


def keyed(key: int | Keys, number: NDArray[Any]) -> Keys:
    """Return the keys of the numbered parts of what `key` is the key of: uint64, of the shape of both together."""
    mixed = (number.astype(np.uint64) + np.uint64(1)) * np.uint64(STEP) + np.asarray(key, dtype=np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(MIX1)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(MIX2)
    return mixed ^ (mixed >> np.uint64(31))


def draws(keys: Keys, number: NDArray[Any]) -> Keys:
    """Return draw `number` of each key, uint64 below 2**32."""
    return keyed(keys, number) >> np.uint64(32)


def draw(key: int, number: int) -> int:
    """Return one draw, as `draws` does."""
    mixed = (key + (number + 1) * STEP) & WRAP
    mixed = (mixed ^ (mixed >> 30)) * MIX1 & WRAP
    mixed = (mixed ^ (mixed >> 27)) * MIX2 & WRAP
    return (mixed ^ (mixed >> 31)) >> 32
