"""Finds near-duplicate pairs of a corpus: candidates by MinHash bands, verified by the exact Jaccard index.

The first pass computes a hash of each pair and of each of its bands. Pairs that share the hash of a band are
candidates. If the texts do not fit into the memory budget, further passes read those of the candidates again.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.cpu_count import granted_cores
from mtx.data.row_slices import row_slices
from mtx.data.score.candidate_pairs import CandidatePairs, distinct
from mtx.data.score.minhash import HALF, LOW_HALF, MinHash
from mtx.data.score.normal_form import NormalTexts, folding_table, joined_texts, normal_pairs
from mtx.data.score.spilled_arrays import SpilledArrays
from mtx.data.threaded_map import threaded_map
from mtx.errors import ConfigError

ROWS_PER_SLICE = 4096  # pairs per task of a thread, so that the arrays of a task fit into the cache
MAX_NEIGHBOURS = 256  # of the pairs that share a band, each is compared with this number of pairs before it
BYTES_PER_PAIR = 72  # hashes of the texts and their order, one band with its order, and the results
WORKING_BYTES = 64 << 20  # a batch of texts, and the tables of characters
BYTES_PER_CHAR = 4
CANDIDATE_BYTES = 64  # of a candidate while it is verified, without its texts
JACCARD_TASK = 20_000  # candidates per task of a thread

Corpus = Callable[[], Iterator[pa.RecordBatch]]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates of n pairs.

    Attributes:
        highest: the highest Jaccard index of a pair and an earlier pair among the candidates, 0 without one: float64.
        cluster: number of the first pair of the cluster: int64. A pair without near-duplicates is its own cluster.
        size: number of pairs of the cluster: int64.
        num_candidates: number of verified candidates.
    """

    highest: Floats
    cluster: Ints
    size: Ints
    num_candidates: int


def least_memory_mb(num_pairs: int) -> int:
    """Return the smallest memory budget in MB for a corpus of this size."""
    return -(-(num_pairs * BYTES_PER_PAIR + WORKING_BYTES) // 10**6)


@dataclass(frozen=True)
class NearDuplicateSearch:
    """A search for near-duplicates.

    Attributes:
        minhash: the n-grams and the bands.
        min_jaccard: pairs with at least this Jaccard index are in one cluster.
        memory_mb: the memory budget. Beyond it, bands and candidates are written to files, with equal results.
        compiled: whether to use numba, if it is installed.
    """

    minhash: MinHash
    min_jaccard: float
    memory_mb: int
    compiled: bool = True

    def find(self, corpus: Corpus, num_pairs: int, scratch: Path) -> NearDuplicates:
        """Return the near-duplicates of a corpus.

        Args:
            corpus: streams record batches with `src` and `tgt`; can be called several times.
            num_pairs: number of pairs of the corpus.
            scratch: an empty folder for temporary files.

        Raises ConfigError if the memory budget is too small for a corpus of this size.
        """
        room = self._room(num_pairs)
        in_memory = 2 * 4 * self.minhash.bands * num_pairs <= room
        folder = scratch / "bands"
        folder.mkdir()
        folding_table()  # before the threads start, so that only one computes it
        with ThreadPoolExecutor(granted_cores()) as threads:
            bands = SpilledArrays(folder, np.uint32, in_memory=in_memory)
            of_text, num_chars, texts = self._fill_bands(corpus, bands, threads, room // 4 if in_memory else 0)
            first_equal = _first_equal(of_text)
            del of_text
            rows = np.flatnonzero(first_equal == np.arange(len(first_equal))).astype(np.uint64)
            candidates = CandidatePairs(scratch / "candidates.bin", num_pairs, room // 8)
            self._fill_candidates(bands, rows, candidates, threads if in_memory else None)
            per_candidate = CANDIDATE_BYTES + 2 * BYTES_PER_CHAR * -(-num_chars // max(num_pairs, 1))
            chunk = max(max(room // 2, WORKING_BYTES // 4) // per_candidate, 1)
            highest = np.zeros(num_pairs, dtype=np.float64)
            highest[first_equal < np.arange(num_pairs)] = 1.0
            cluster, size = first_equal, np.ones(num_pairs, dtype=np.int64)
            num_candidates = 0
            for found in candidates.pieces():
                num_candidates += len(found)
                links = [np.empty(0, dtype=np.uint64)]
                for start in range(0, len(found), chunk):
                    piece = found[start : start + chunk]
                    values = self._verified(corpus, texts, piece, threads)
                    np.maximum.at(highest, (piece >> HALF).astype(np.int64), values)
                    links.append(piece[values >= self.min_jaccard])
                cluster, size = _clusters(cluster, np.concatenate(links))
        return NearDuplicates(highest, cluster, size, num_candidates)

    def _room(self, num_pairs: int) -> int:
        """Return the bytes of the budget beyond what each pair needs. Raises ConfigError if there is nothing left."""
        if num_pairs >= 1 << 32:
            raise ConfigError(
                f"near-duplicates are found among at most {(1 << 32) - 1:,} pairs, but there are {num_pairs:,}. "
                "Read fewer pairs with downloader.n"
            )
        if self.memory_mb < (least := least_memory_mb(num_pairs)):
            raise ConfigError(
                f"near-duplicates of {num_pairs:,} pairs need at least {least} MB of memory, but memory_mb is "
                f"{self.memory_mb}. Set score.near_duplicates.memory_mb={least} or more"
            )
        return self.memory_mb * 10**6 - (num_pairs * BYTES_PER_PAIR + WORKING_BYTES)

    def _fill_bands(
        self, corpus: Corpus, bands: SpilledArrays, threads: ThreadPoolExecutor, room: int
    ) -> tuple[NDArray[np.uint64], int, NormalTexts | None]:
        """Append the hashes of all bands.

        Returns:
            The hash of each text, the number of characters, and the normal forms if they fit into `room` bytes.
        """

        def hashes(pairs: pa.RecordBatch) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NormalTexts]:
            texts = normal_pairs(pairs)
            return (*self.minhash.band_hashes(texts.codes, texts.offsets, compiled=self.compiled), texts)

        of_text, num_chars = [np.empty(0, dtype=np.uint64)], 0
        # The system gives memory to an array when it is written, so that this takes what the texts need.
        codes = np.empty(room // BYTES_PER_CHAR, dtype=np.uint32)
        lengths = [np.zeros(1, dtype=np.int64)]
        slices = (piece for batch in corpus() for piece in row_slices(batch, ROWS_PER_SLICE))
        for found, hashed, texts in threaded_map(threads, hashes, slices):
            for number, band in enumerate(found):
                bands.append(number, band)
            of_text.append(hashed)
            if (end := num_chars + len(texts.codes)) <= len(codes):
                codes[num_chars:end] = texts.codes
                lengths.append(np.diff(texts.offsets))
            else:
                codes = codes[:0].copy()  # frees the memory
            num_chars = end
        kept = NormalTexts(codes[:num_chars], np.cumsum(np.concatenate(lengths))) if num_chars <= len(codes) else None
        return np.concatenate(of_text), num_chars, kept

    def _fill_candidates(
        self,
        bands: SpilledArrays,
        rows: NDArray[np.uint64],
        candidates: CandidatePairs,
        threads: ThreadPoolExecutor | None,
    ) -> None:
        """Append the candidates of each band; without threads, one band at a time, because memory is scarce."""

        def of_band(number: int) -> None:
            keys = (bands.take(number)[rows.astype(np.int64)].astype(np.uint64) << HALF) | rows
            keys.sort()
            for found in pairs_with_one_hash(keys):
                candidates.append(found)

        for _ in (threads.map if threads else map)(of_band, range(self.minhash.bands)):
            pass

    def _verified(
        self, corpus: Corpus, texts: NormalTexts | None, candidates: NDArray[np.uint64], threads: ThreadPoolExecutor
    ) -> Floats:
        """Return the exact Jaccard index of each candidate. Without `texts`, those of the candidates are read again."""
        one, other = (candidates >> HALF).astype(np.int64), (candidates & LOW_HALF).astype(np.int64)
        if texts is None:
            needed = distinct(np.concatenate([one, other]))
            texts = _texts_of(corpus, needed, threads)
            one, other = np.searchsorted(needed, one), np.searchsorted(needed, other)

        def jaccard(start: int) -> Floats:
            here = slice(start, start + JACCARD_TASK)
            return self.minhash.jaccard(texts.codes, texts.offsets, one[here], other[here], compiled=self.compiled)

        found = list(threads.map(jaccard, range(0, len(candidates), JACCARD_TASK)))
        return np.concatenate([np.empty(0), *found])


def _texts_of(corpus: Corpus, rows: Ints, threads: ThreadPoolExecutor) -> NormalTexts:
    """Return the normal forms of the pairs with the given row numbers, ascending."""
    found: list[NormalTexts] = []
    first = 0
    for batch in corpus():
        low, high = np.searchsorted(rows, (first, first + batch.num_rows))
        chosen = batch.select(["src", "tgt"]).take(pa.array(rows[low:high] - first))
        first += batch.num_rows
        found += threads.map(normal_pairs, row_slices(chosen, ROWS_PER_SLICE))
    return joined_texts(found)


def _first_equal(of_text: NDArray[np.uint64]) -> Ints:
    """Return for each text the number of the first text with its hash: int64 [n]."""
    found = np.arange(len(of_text))
    # Few texts share half of their hash with another one, so that the slow search for equal hashes sees only those.
    keys = (of_text & ~LOW_HALF) | found.astype(np.uint64)
    keys.sort()
    is_shared = np.zeros(len(keys) + 1, dtype=np.bool_)
    np.equal(keys[1:] >> HALF, keys[:-1] >> HALF, out=is_shared[1:-1])
    rows = np.sort((keys[is_shared[1:] | is_shared[:-1]] & LOW_HALF).astype(np.int64))
    _, first, inverse = np.unique(of_text[rows], return_index=True, return_inverse=True)
    found[rows] = rows[first[inverse]]
    return found


def pairs_with_one_hash(keys: NDArray[np.uint64], max_neighbours: int = MAX_NEIGHBOURS) -> Iterator[NDArray[np.uint64]]:
    """Yield the pairs of rows with one hash, the later row in the high half, in parts of at most one pair for each row.

    Args:
        keys: ascending; the hash in the high half, and the row in the low half.
        max_neighbours: of the rows with one hash, each is paired with at most this number of rows before it.
    """
    hashes = keys >> HALF
    places = np.flatnonzero(hashes[1:] == hashes[:-1])
    for distance in range(1, max_neighbours + 1):
        places = places[places + distance < len(keys)]
        places = places[hashes[places] == hashes[places + distance]]
        if not len(places):
            break
        yield (keys[places + distance] << HALF) | (keys[places] & LOW_HALF)


def _clusters(first_equal: Ints, links: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Return the first row and the size of the cluster of each row: the connected components of equal and linked rows.

    Args:
        first_equal: the first row of a smaller cluster, such as the first one with an equal text.
        links: pairs of rows, one in each half.
    """
    cluster = first_equal
    one, other = (links >> HALF).astype(np.int64), (links & LOW_HALF).astype(np.int64)
    while len(one):
        # Each cluster whose first row is not the lower one joins the lowest cluster that it is linked to.
        one, other = cluster[one], cluster[other]
        differ = one != other
        one, other = np.maximum(one, other)[differ], np.minimum(one, other)[differ]
        cluster = cluster.copy()
        np.minimum.at(cluster, one, other)
        while not np.array_equal(cluster, root := cluster[cluster]):
            cluster = root
    return cluster, np.bincount(cluster, minlength=len(cluster))[cluster]
