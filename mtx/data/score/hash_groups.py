"""Rows that share a hash, and clusters of rows, for corpora whose arrays of 8 bytes a row are a large part of memory.

Row numbers are uint32. Whatever needs several arrays of all rows is done in parts.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mtx.data.score.minhash import HALF, LOW_HALF

Hashes = NDArray[np.uint64]
RowNumbers = NDArray[np.uint32]
Ints = NDArray[np.int64]

ROWS_PER_PART = 1 << 22  # whose temporary arrays are there at once
NUM_PARTS = 16  # of the rows that may be equal, by the last bits of their hash


def first_equal_rows(of_row: Hashes) -> RowNumbers:
    """Return for each row the number of the first row with its hash: uint32 [n]."""
    found = np.arange(len(of_row), dtype=np.uint32)
    # Few rows share half of their hash with another one, so that the slow search for equal hashes sees only those.
    keys = of_row & ~LOW_HALF
    keys |= found
    keys.sort()
    is_shared = np.zeros(len(keys) + 1, dtype=np.bool_)
    for start in range(0, len(keys) - 1, ROWS_PER_PART):
        high = keys[start : start + ROWS_PER_PART + 1] >> HALF
        np.equal(high[1:], high[:-1], out=is_shared[start + 1 : start + len(high)])
    rows = keys[is_shared[1:] | is_shared[:-1]].astype(np.uint32)  # drops the hash
    del keys
    rows.sort()
    parts = (of_row[rows] % NUM_PARTS).astype(np.uint8)
    for part in range(NUM_PARTS):
        here = rows[parts == part]
        _, first, inverse = np.unique(of_row[here], return_index=True, return_inverse=True)
        found[here] = here[first[inverse]]
    return found


def distinct_rows(first_equal: RowNumbers) -> RowNumbers:
    """Return the rows without an equal row before them, ascending."""
    parts = [np.empty(0, dtype=np.uint32)]
    for start in range(0, len(first_equal), ROWS_PER_PART):
        here = first_equal[start : start + ROWS_PER_PART]
        parts.append(here[here == np.arange(start, start + len(here))])
    return np.concatenate(parts)


def pairs_with_one_hash(keys: Hashes, max_neighbours: int) -> Iterator[Hashes]:
    """Yield the pairs of rows with one hash, the later row in the high half, in parts of at most `ROWS_PER_PART` pairs.

    Args:
        keys: ascending; the hash in the high half, and the row in the low half.
        max_neighbours: of the rows with one hash, each is paired with at most this number of rows before it.
    """
    for start in range(0, len(keys) - 1, ROWS_PER_PART):
        high = keys[start : start + ROWS_PER_PART + 1] >> HALF
        places = np.flatnonzero(high[1:] == high[:-1]) + start
        for distance in range(1, max_neighbours + 1):
            places = places[places + distance < len(keys)]
            places = places[keys[places] >> HALF == keys[places + distance] >> HALF]
            if not len(places):
                break
            yield (keys[places + distance] << HALF) | (keys[places] & LOW_HALF)


def join_clusters(cluster: RowNumbers, links: Hashes) -> RowNumbers:
    """Return the first row of the cluster of each row: the connected components of clusters and linked rows.

    Args:
        cluster: the first row of a smaller cluster, such as the first one with an equal text. It is overwritten.
        links: pairs of rows, one in each half.
    """
    one, other = (links >> HALF).astype(np.uint32), links.astype(np.uint32)
    while len(one):
        # Each cluster whose first row is not the lower one joins the lowest cluster that it is linked to.
        one, other = cluster[one], cluster[other]
        differ = one != other
        one, other = np.maximum(one, other)[differ], np.minimum(one, other)[differ]
        np.minimum.at(cluster, one, other)
        while not np.array_equal(cluster, root := cluster[cluster]):
            cluster = root
    return cluster


def cluster_sizes(cluster: RowNumbers) -> Ints:
    """Return the number of rows of the cluster of each row: int64 [n]."""
    counts = np.bincount(cluster, minlength=len(cluster))
    sizes = np.empty(len(cluster), dtype=np.int64)
    for start in range(0, len(cluster), ROWS_PER_PART):
        here = slice(start, start + ROWS_PER_PART)
        sizes[here] = counts[cluster[here]]
    return sizes
