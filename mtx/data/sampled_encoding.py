"""Encodes the training pairs anew in each epoch, for tokenizers that sample segmentations (BPE-dropout, unigram).

The token ids of an epoch depend only on texts, tokenizer, seed and epoch. They are stored in unnamed temporary files,
which the system deletes after the last array that uses them, even if the process is killed.
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

from mtx.cpu_count import granted_cores
from mtx.data.store import Store
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.data.tokenize.counter_rng import rng_key
from mtx.data.tokenize.subword_sampling import Ids, Int, SubwordSampler
from mtx.data.tokenize.tokenization import Tokenization
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.data.tokenize.word_index import load_words

ROWS_PER_TASK = 8192  # rows that a thread encodes per task: some 10 ms of work, and about 1 MB of token ids
TASKS_PER_THREAD = 2  # queued tasks per thread: one in work, and one finished that waits to be written
MAX_THREADS = 8  # with more threads, writing the ids is the bottleneck
SOURCE, TARGET = 1, 2  # `purpose` in the keys of the random numbers; the plan of batches uses 0


class SampledPairs:
    """All training pairs, which `epoch` encodes with another segmentation in each epoch. Thread-safe.

    Args:
        source: samples the token ids of the source side.
        target: samples the token ids of the target side.
        num_pairs: number of rows of each side.
        scratch: folder for temporary files as large as the token ids of one epoch, so that memory is bounded.
        num_threads: number of threads that encode; None: the number of cores, at most 8. The ids do not depend on it.
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
        """Encode all pairs for one epoch. Raises ConfigError if `seed` or `epoch` is negative."""
        return EncodedPairs(
            self._encoded_rows(self._source, rng_key(seed, epoch, SOURCE)),
            self._encoded_rows(self._target, rng_key(seed, epoch, TARGET)),
        )

    def _encoded_rows(self, sampler: SubwordSampler, key: int) -> TokenRows:
        offsets = np.zeros(self._num_pairs + 1, dtype=np.int64)
        begun = 0
        ids, _ = sampler.sample(0, 0, key)  # an empty array of the right dtype
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            for ids, lengths in self._encoded_parts(sampler, key):
                file.write(ids.data)
                offsets[begun + 1 : begun + len(lengths) + 1] = lengths
                begun += len(lengths)
            np.cumsum(offsets, out=offsets)
            file.flush()
            return TokenRows(_mapped_array(file, ids.dtype, int(offsets[-1])), offsets)

    def _encoded_parts(self, sampler: SubwordSampler, key: int) -> Iterator[tuple[Ids, Int]]:
        """Yield the token ids of consecutive ranges of rows in order. Threads encode them, without holding the GIL."""
        starts = range(0, self._num_pairs, ROWS_PER_TASK)
        waiting: deque[Future[tuple[Ids, Int]]] = deque()
        with ThreadPoolExecutor(self._num_threads, thread_name_prefix="mtx-sampling") as threads:
            for start in starts:
                if len(waiting) == TASKS_PER_THREAD * self._num_threads:
                    yield waiting.popleft().result()
                waiting.append(threads.submit(sampler.sample, start, min(start + ROWS_PER_TASK, self._num_pairs), key))
            while waiting:
                yield waiting.popleft().result()


def sampled_pairs(store: Store, words_id: str, tokenizers: TokenizerPair, config: Tokenization) -> SampledPairs:
    """Return the pairs of a training set, ready for sampled encoding with the options of `config`.

    Takes some seconds if numba is not installed. Raises TokenizerError if the tokenizers do not support sampling.
    """
    words = load_words(store, words_id)
    return SampledPairs(
        config.sampler(tokenizers.source, words["source"]),
        config.sampler(tokenizers.target, words["target"]),
        len(words["source"]),
        scratch=store.scratch(),
    )


def _mapped_array(file: IO[bytes], dtype: Any, size: int) -> NDArray[Any]:
    if not size:  # an empty file cannot be memory-mapped
        return np.empty(0, dtype=dtype)
    return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=dtype)
