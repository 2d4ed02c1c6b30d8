"""Finds near-duplicate pairs of a corpus: candidates by MinHash bands, verified by the exact Jaccard index.

The first pass computes a hash of each pair and of each of its bands. Pairs that share the hash of a band are
candidates. If the texts do not fit into the memory budget, a second pass writes those of the candidates to a file.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.container_limits import available_bytes
from mtx.cpu_count import granted_cores
from mtx.data.freed_memory import make_room_for
from mtx.data.row_slices import row_slices
from mtx.data.score.candidate_pairs import CandidatePairs
from mtx.data.score.hash_groups import (
    RowNumbers,
    cluster_sizes,
    distinct_rows,
    first_equal_rows,
    join_clusters,
    pairs_with_one_hash,
)
from mtx.data.score.minhash import HALF, LOW_HALF, MinHash
from mtx.data.score.normal_form import NormalTexts, folding_table, normal_pairs
from mtx.data.score.spilled_arrays import SpilledArrays
from mtx.data.threaded_map import threaded_map
from mtx.errors import ConfigError
from mtx.infra.dal.atomic_file import convert_disk_errors

ROWS_PER_SLICE = 4096  # pairs per task of a thread, so that the arrays of a task fit into the cache
MAX_NEIGHBOURS = 256  # of the pairs that share a band, each is compared with this number of pairs before it
BYTES_PER_PAIR = 32  # at most four arrays of 8 bytes: hashes and their order, one band with its order, the results
BYTES_PER_BAND_TASK = 24  # of a pair, for each thread that finds the candidates of a band
WORKING_BYTES = 64 << 20  # a batch of texts, and the tables of characters
BYTES_PER_CHAR = 4
CANDIDATE_BYTES = 64  # of a candidate while it is verified
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


def least_memory_gb(num_pairs: int) -> float:
    """Return the smallest memory budget in GB, in thousandths, for a corpus of this size."""
    return -(-(num_pairs * BYTES_PER_PAIR + WORKING_BYTES) // 10**6) / 1000


@dataclass(frozen=True)
class NearDuplicateSearch:
    """A search for near-duplicates.

    Attributes:
        minhash: the n-grams and the bands.
        min_jaccard: pairs with at least this Jaccard index are in one cluster.
        memory_gb: the memory budget, in 10⁹ bytes. Beyond it, bands and candidates go to files, with equal results.
        compiled: whether to use numba, if it is installed.
    """

    minhash: MinHash
    min_jaccard: float
    memory_gb: float
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
        tasks = min(granted_cores(), self.minhash.bands)
        in_memory = (4 * self.minhash.bands + BYTES_PER_BAND_TASK * tasks) * num_pairs <= room
        folder = scratch / "bands"
        folder.mkdir()
        folding_table()  # before the threads start, so that only one computes it
        with ThreadPoolExecutor(granted_cores()) as threads:
            bands = SpilledArrays(folder, np.uint32, in_memory=in_memory)
            of_text = np.empty(num_pairs, dtype=np.uint64)
            texts = self._fill_bands(corpus, of_text, bands, threads, room // 4 if in_memory else 0)
            make_room_for(num_pairs)
            cluster = first_equal_rows(of_text)
            del of_text
            rows = distinct_rows(cluster)
            candidates = CandidatePairs(scratch / "candidates.bin", num_pairs, room // 8)
            is_candidate = self._fill_candidates(bands, rows, candidates, threads if in_memory else None)
            needed = None  # rows with a text, if not all have one
            if texts is None:
                needed = np.flatnonzero(is_candidate).astype(np.uint32)
                texts = _stored_texts(corpus, needed, threads, scratch / "texts")
                make_room_for(num_pairs)
            del is_candidate
            chunk = max(max(room // 2, WORKING_BYTES // 4) // CANDIDATE_BYTES, 1)
            highest = np.ones(num_pairs, dtype=np.float64)  # of pairs with an equal one before them
            highest[rows] = 0.0
            del rows
            num_candidates = 0
            for found in candidates.pieces():
                num_candidates += len(found)
                links = [np.empty(0, dtype=np.uint64)]
                for start in range(0, len(found), chunk):
                    piece = found[start : start + chunk]
                    values = self._verified(texts, needed, piece, threads)
                    np.maximum.at(highest, (piece >> HALF).astype(np.int64), values)
                    links.append(piece[values >= self.min_jaccard])
                cluster = join_clusters(cluster, np.concatenate(links))
        return NearDuplicates(highest, cluster.astype(np.int64), cluster_sizes(cluster), num_candidates)

    def _room(self, num_pairs: int) -> int:
        """Return the bytes of the budget beyond what each pair needs. Raises ConfigError if there is nothing left."""
        if num_pairs >= 1 << 32:
            raise ConfigError(
                f"near-duplicates are found among at most {(1 << 32) - 1:,} pairs, but there are {num_pairs:,}. "
                "Read fewer pairs with downloader.n"
            )
        if self.memory_gb < (least := least_memory_gb(num_pairs)):
            raise ConfigError(
                f"near-duplicates of {num_pairs:,} pairs need at least {least} GB of memory, but memory_gb is "
                f"{self.memory_gb}. Set score.near_duplicates.memory_gb={least} or more"
            )
        room = int(self.memory_gb * 1e9) - (num_pairs * BYTES_PER_PAIR + WORKING_BYTES)
        free = available_bytes()
        return room if free is None else min(room, free)  # the system refuses an array beyond its memory

    def _fill_bands(
        self,
        corpus: Corpus,
        of_text: NDArray[np.uint64],
        bands: SpilledArrays,
        threads: ThreadPoolExecutor,
        room: int,
    ) -> NormalTexts | None:
        """Append the hashes of all bands, and write the hash of each text to `of_text`.

        Returns the normal forms if they fit into `room` bytes, else None.
        """

        def hashes(pairs: pa.RecordBatch) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NormalTexts]:
            texts = normal_pairs(pairs)
            return (*self.minhash.band_hashes(texts.codes, texts.offsets, compiled=self.compiled), texts)

        num_texts = num_chars = 0
        # The system gives memory to an array when it is written, so that this takes what the texts need.
        codes = np.empty(room // BYTES_PER_CHAR, dtype=np.uint32)
        lengths = [np.zeros(1, dtype=np.int64)]
        slices = (piece for batch in corpus() for piece in row_slices(batch, ROWS_PER_SLICE))
        for found, hashed, texts in threaded_map(threads, hashes, slices):
            for number, band in enumerate(found):
                bands.append(number, band)
            of_text[num_texts : num_texts + len(hashed)] = hashed
            num_texts += len(hashed)
            if (end := num_chars + len(texts.codes)) <= len(codes):
                codes[num_chars:end] = texts.codes
                lengths.append(np.diff(texts.offsets))
            else:
                codes = codes[:0].copy()  # frees the memory
            num_chars = end
        if num_chars > len(codes):
            return None
        return NormalTexts(codes[:num_chars], np.cumsum(np.concatenate(lengths)))

    def _fill_candidates(
        self,
        bands: SpilledArrays,
        rows: RowNumbers,
        candidates: CandidatePairs,
        threads: ThreadPoolExecutor | None,
    ) -> NDArray[np.bool_]:
        """Append the candidates of each band, and return which rows are in a candidate: bool [n].

        Without threads, one band is searched at a time, because memory is scarce.
        """
        is_candidate = np.zeros(int(rows[-1]) + 1 if len(rows) else 0, dtype=np.bool_)

        def of_band(number: int) -> None:
            keys = bands.take(number)[rows].astype(np.uint64)
            keys <<= HALF
            keys |= rows
            keys.sort()
            for found in pairs_with_one_hash(keys, MAX_NEIGHBOURS):
                is_candidate[found >> HALF] = True
                is_candidate[found & LOW_HALF] = True
                candidates.append(found)

        for _ in (threads.map if threads else map)(of_band, range(self.minhash.bands)):
            pass
        return is_candidate

    def _verified(
        self,
        texts: NormalTexts,
        needed: RowNumbers | None,
        candidates: NDArray[np.uint64],
        threads: ThreadPoolExecutor,
    ) -> Floats:
        """Return the exact Jaccard index of each candidate. `texts` are those of the rows `needed`; None: of all."""
        one, other = (candidates >> HALF).astype(np.int64), (candidates & LOW_HALF).astype(np.int64)
        if needed is not None:
            one, other = (np.searchsorted(needed, rows.astype(np.uint32)) for rows in (one, other))

        def jaccard(start: int) -> Floats:
            here = slice(start, start + JACCARD_TASK)
            return self.minhash.jaccard(texts.codes, texts.offsets, one[here], other[here], compiled=self.compiled)

        found = list(threads.map(jaccard, range(0, len(candidates), JACCARD_TASK)))
        return np.concatenate([np.empty(0), *found])


def _stored_texts(corpus: Corpus, rows: RowNumbers, threads: ThreadPoolExecutor, folder: Path) -> NormalTexts:
    """Return the normal forms of the pairs with the given row numbers, ascending, as memory-mapped files.

    Raises StoreError if the disk refuses the write.
    """
    folder.mkdir()
    paths = codes_path, offsets_path = folder / "codes.bin", folder / "offsets.bin"
    first = end = 0
    with convert_disk_errors(folder), codes_path.open("wb") as codes, offsets_path.open("wb") as offsets:
        codes.write(np.zeros(1, dtype=np.uint32).data)  # an empty file cannot be mapped
        offsets.write(np.zeros(1, dtype=np.int64).data)
        for batch in corpus():
            low, high = np.searchsorted(rows, (first, first + batch.num_rows))
            chosen = batch.select(["src", "tgt"]).take(pa.array(rows[low:high] - np.uint32(first)))
            first += batch.num_rows
            for texts in threads.map(normal_pairs, row_slices(chosen, ROWS_PER_SLICE)):
                codes.write(texts.codes.data)
                offsets.write((texts.offsets[1:] + end).data)
                end += len(texts.codes)
    # Kernels are compiled for arrays that can be written.
    found = [np.memmap(path, kind, mode="r+") for path, kind in zip(paths, (np.uint32, np.int64), strict=True)]
    shutil.rmtree(folder)  # the files live as long as they are mapped
    return NormalTexts(found[0][1:], found[1])
