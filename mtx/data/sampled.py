"""Training pairs that are cut into other tokens in each epoch: from words to ids, the way of `encode.py` but for text.

The ids of an epoch are a function of (texts, tokenizer, seed, epoch). They lie in temporary files that have no name, so
nothing is left of them once no array refers to them, nor after a process is killed.
"""

import mmap
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mtx.cores import granted_cores
from mtx.data.store import Store
from mtx.data.tokenize.base import Tokenization
from mtx.data.tokenize.draws import key_of
from mtx.data.tokenize.pair import TokenizerPair
from mtx.data.tokenize.sampling import Ids, Int, SubwordSampler
from mtx.data.tokenize.words import load_words
from mtx.infra.dataset.collate import EncodedPairs, TokenRows

ROWS_AT_ONCE = 8192  # a thread's task: some tens of milliseconds, and a megabyte of ids
AHEAD = 2  # such tasks for each thread: one in the making, one to be written
MAX_THREADS = 8  # beyond, writing is what takes the time
SOURCE, TARGET = 1, 2  # purposes of keys; 0 is the plan's


class SampledPairs:
    """All pairs of a split, encoded anew in each epoch. Thread-safe.

    Args:
        source: encodes the rows of the source.
        target: encodes the rows of the target.
        num_pairs: rows of each.
        scratch: folder for temporary files of the size of an epoch's ids; memory stays bounded.
        num_threads: that encode at once; None: as many as there are cores, 8 at most. The ids don't depend on it.
    """

    def __init__(
        self,
        source: SubwordSampler,
        target: SubwordSampler,
        num_pairs: int,
        *,
        scratch: Path,
        num_threads: int | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._num_pairs = num_pairs
        self._scratch = scratch
        self._num_threads = num_threads or min(MAX_THREADS, granted_cores())

    def __len__(self) -> int:
        return self._num_pairs

    def epoch(self, *, seed: int, epoch: int) -> EncodedPairs:
        """Encode all pairs for one epoch. Raises ConfigError where `seed` or `epoch` is below 0."""
        return EncodedPairs(
            self._encoded(self._source, key_of(seed, epoch, SOURCE)),
            self._encoded(self._target, key_of(seed, epoch, TARGET)),
        )

    def _encoded(self, sampler: SubwordSampler, key: int) -> TokenRows:
        offsets = np.zeros(self._num_pairs + 1, dtype=np.int64)
        begun = 0
        ids, _ = sampler.sample(0, 0, key)  # none, of the type that all have
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            for ids, lengths in self._some(sampler, key):
                file.write(ids.data)
                offsets[begun + 1 : begun + len(lengths) + 1] = lengths
                begun += len(lengths)
            np.cumsum(offsets, out=offsets)
            file.flush()
            return TokenRows(_mapped(file, ids.dtype, int(offsets[-1])), offsets)

    def _some(self, sampler: SubwordSampler, key: int) -> Iterator[tuple[Ids, Int]]:
        """Yield some rows after the other, in order, encoded by threads: the compiled kernels let others run."""
        starts = range(0, self._num_pairs, ROWS_AT_ONCE)
        waiting: deque[Future[tuple[Ids, Int]]] = deque()
        with ThreadPoolExecutor(self._num_threads, thread_name_prefix="mtx-sampling") as threads:
            for start in starts:
                if len(waiting) == AHEAD * self._num_threads:
                    yield waiting.popleft().result()
                waiting.append(threads.submit(sampler.sample, start, min(start + ROWS_AT_ONCE, self._num_pairs), key))
            while waiting:
                yield waiting.popleft().result()


def sampled_pairs(store: Store, words_id: str, tokenizers: TokenizerPair, config: Tokenization) -> SampledPairs:
    """Open the words of a training set for encoding as `config` says; some seconds where numba is not installed.

    Raises TokenizerError where the tokenizers are of a kind that cannot be sampled.
    """
    words = load_words(store, words_id)
    return SampledPairs(
        config.sampler(tokenizers.source, words["source"]),
        config.sampler(tokenizers.target, words["target"]),
        len(words["source"]),
        scratch=store.scratch(),
    )


def _mapped(file: IO[bytes], dtype: Any, size: int) -> NDArray[Any]:
    if not size:  # nothing cannot be mapped
        return np.empty(0, dtype=dtype)
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=dtype)
