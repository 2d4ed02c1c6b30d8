"""The choice between compiled n-gram functions, which need numba, and those of numpy."""

from functools import cache
from typing import cast

from mtx.data.compiled_kernels import numba_kernels
from mtx.data.score import letter_ngrams
from mtx.data.score.letter_ngrams import NgramFunctions

SLOW_PATH_NOTE = "the scorer language takes about 40 times as long"


@cache
def ngram_functions() -> NgramFunctions:
    """Return the compiled functions if numba is installed and usable, else those of numpy.

    The first call in a process imports numba, which takes about 0.3 s and 100 MB.
    """
    kernels = numba_kernels("mtx.data.score.letter_ngram_kernels", SLOW_PATH_NOTE, tell_missing=True)
    return cast(NgramFunctions, kernels or letter_ngrams)
