"""Measure the search for near-duplicates: rate, memory budgets, and which near-duplicates are found.

scripts/bench_scores prints these figures. All pairs with a Jaccard index of at least 0.8 are found exactly by the
prefix filter of Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search": two such sets share one of the
rarest 20 % of their n-grams.
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.row_slices import row_slices
from mtx.data.score.hash_groups import pairs_with_one_hash
from mtx.data.score.minhash import HALF, LOW_HALF, MinHash, ngram_hashes
from mtx.data.score.near_duplicate_search import NearDuplicates, NearDuplicateSearch, least_memory_gb
from mtx.data.score.near_duplicates import BANDS, NGRAM, ROWS_PER_BAND
from mtx.data.score.normal_form import normal_pairs

MINHASH = MinHash(NGRAM, BANDS, ROWS_PER_BAND)
MIN_JACCARD = 0.8
BUCKET_SHIFT = np.uint64(40)  # n-grams are counted in 2^24 buckets; any order of n-grams is exact
ROWS_PER_SLICE = 4096
CANDIDATES_PER_TASK = 1 << 22


def measure_near_duplicates(pairs: pa.Table) -> None:
    """Print rates with two memory budgets, and the shares of near-duplicates that are found."""
    batches = list(pair_batches(pairs))
    found = [timed_search(batches, memory_gb) for memory_gb in (4.0, 4.0, least_memory_gb(len(pairs)) + 0.01)]
    for name in ("highest", "cluster", "size"):
        assert np.array_equal(getattr(found[0], name), getattr(found[2], name)), "a budget changed the result"
    later, earlier, values = exact_near_duplicates(batches)
    highest = np.zeros(len(pairs))
    np.maximum.at(highest, later, values)
    rows = highest >= MIN_JACCARD
    both = found[0].cluster[later] == found[0].cluster[earlier]
    exact = np.isclose(found[0].highest[rows], highest[rows]).mean()
    print(
        f"    {len(later):,} near-duplicates of {MIN_JACCARD} or more, by an exact search over all pairs, with "
        f"{rows.sum():,} later pairs\n"
        f"    found: {np.mean(found[0].highest[rows] >= MIN_JACCARD):.2%} of the later pairs ({exact:.2%} with the "
        f"exact highest index); {both.mean():.2%} of the near-duplicates are in one cluster"
    )


def timed_search(batches: list[pa.RecordBatch], memory_gb: float) -> NearDuplicates:
    num_pairs = sum(batch.num_rows for batch in batches)
    search = NearDuplicateSearch(MINHASH, MIN_JACCARD, memory_gb)
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        found = search.find(lambda: iter(batches), num_pairs, Path(folder))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(
        f"    near-duplicates with memory_gb={memory_gb}: {num_pairs / wall:,.0f} pairs/s (wall clock), "
        f"{num_pairs / cpu:,.0f} pairs per CPU second, {found.num_candidates:,} candidates, "
        f"{np.count_nonzero(found.size > 1):,} pairs in clusters; peak of the process so far {peak:,.0f} MB"
    )
    return found


def exact_near_duplicates(batches: list[pa.RecordBatch]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the later and the earlier row, and the Jaccard index, of all near-duplicates; equal texts count once."""
    texts = [normal_pairs(piece) for batch in batches for piece in row_slices(batch, ROWS_PER_SLICE)]
    hashes = np.concatenate([MINHASH.band_hashes(part.codes, part.offsets)[1] for part in texts])
    _, first = np.unique(hashes, return_index=True)
    counts = np.zeros(1 << 24, dtype=np.int64)
    for part in texts:
        counts += np.bincount(
            (ngram_hashes(part.codes, part.offsets, NGRAM)[0] >> BUCKET_SHIFT).astype(np.int64), minlength=1 << 24
        )
    keys, row = [], 0
    for part in texts:
        grams, starts = ngram_hashes(part.codes, part.offsets, NGRAM)
        of_row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        order = np.lexsort((grams, counts[(grams >> BUCKET_SHIFT).astype(np.int64)], of_row))
        grams, of_row = grams[order], of_row[order]
        is_first = np.append(True, (grams[1:] != grams[:-1]) | (of_row[1:] != of_row[:-1]))
        grams, of_row = grams[is_first], of_row[is_first]
        sizes = np.bincount(of_row, minlength=len(starts) - 1)
        place = np.arange(len(grams)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        inside = place <= (sizes - np.ceil(MIN_JACCARD * sizes - 1e-9))[of_row]
        keys.append((grams[inside] & ~LOW_HALF) | (of_row[inside] + row).astype(np.uint64))
        row += len(starts) - 1
    joined = np.concatenate(keys)
    joined = joined[np.isin((joined & LOW_HALF).astype(np.int64), first)]
    joined.sort()
    candidates = np.unique(np.concatenate(list(pairs_with_one_hash(joined, max_neighbours=1 << 30))))
    codes = np.concatenate([part.codes for part in texts])
    lengths = np.concatenate([[0], *(np.diff(part.offsets) for part in texts)])
    later, earlier = (candidates >> HALF).astype(np.int64), (candidates & LOW_HALF).astype(np.int64)
    values = MINHASH.jaccard(codes, np.cumsum(lengths), later, earlier)
    similar = values >= MIN_JACCARD
    return later[similar], earlier[similar], values[similar]
