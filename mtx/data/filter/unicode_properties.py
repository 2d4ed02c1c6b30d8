"""Unicode properties of all code points that Python's database lacks: Alphabetic, and the scripts.

They come from Oniguruma, the library of regular expressions in the package tokenizers. Letters that Python's database
has and Oniguruma's has not yet are alphabetic, too.
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mtx.data.score.character_scripts import END, NUM_CODES
from mtx.errors import ConfigError

SURROGATES = range(0xD800, 0xE000)

Mask = NDArray[np.bool_]


@cache
def is_alphabetic() -> Mask:
    """Return which code points have the Unicode property Alphabetic: bool [code points]."""
    roman = [unicodedata.category(chr(code)) == "Nl" for code in range(END)]
    mask = _with_property("Alphabetic") | is_letter()
    mask[:END] |= roman
    return mask


@cache
def is_letter() -> Mask:
    """Return which code points have the Unicode category L: bool [code points]."""
    mask = np.zeros(NUM_CODES, dtype=np.bool_)
    mask[:END] = [unicodedata.category(chr(code))[0] == "L" for code in range(END)]
    return mask


@cache
def is_in_script(script: str) -> Mask:
    """Return which code points are of a Unicode script, such as Latin, Han or Cyrl: bool [code points].

    Raises ConfigError for an unknown script.
    """
    if not script.replace("_", "").replace("-", "").replace(" ", "").isalnum() or len(script) > 50:
        raise ConfigError(_unknown(script))
    try:
        return _with_property(script)
    except Exception:  # the package raises no other class
        raise ConfigError(_unknown(script)) from None


def _unknown(script: str) -> str:
    return f"{script[:50]!r} is not the name of a Unicode script, such as Latin, Greek, Cyrillic, Han or Arabic"


def _with_property(name: str) -> Mask:
    from tokenizers import Regex, normalizers

    text = "".join(chr(code) for code in range(END) if code not in SURROGATES)
    left = normalizers.Replace(Regex(rf"\P{{{name}}}"), "").normalize_str(text)
    mask = np.zeros(NUM_CODES, dtype=np.bool_)
    mask[np.frombuffer(left.encode("utf-32-le"), dtype=np.uint32)] = True
    return mask
