"""The compiled way to sample subwords: the same ids as the numpy and Python of `dropout.py` and `lattice.py`.

Imports numba, an optional dependency, so only `load` in `sampling.py` imports this module. All functions release the
interpreter's lock. Draws are those of `draws.py`.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from mtx.data.tokenize import draws, lattice

Array = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

STEP, MIX1, MIX2, ONE = (np.uint64(number) for number in (draws.STEP, draws.MIX1, draws.MIX2, 1))
S27, S30, S31, S32 = (np.uint64(number) for number in (27, 30, 31, 32))
NONE = -1


def _compiled(function: Function) -> Function:
    return cast(Function, numba.njit(cache=True, nogil=True)(function))


find_edges = _compiled(lattice.find_edges)
weigh_edges = _compiled(lattice.weigh_edges)


@_compiled
def keyed(key: Any, number: Any) -> Any:
    """Return the key of part `number` (uint64) of what `key` is the key of."""
    mixed = (number + ONE) * STEP + key
    mixed = (mixed ^ (mixed >> S30)) * MIX1
    mixed = (mixed ^ (mixed >> S27)) * MIX2
    return mixed ^ (mixed >> S31)


@_compiled
def rank_of(left: int, right: int, pairs: Array, ranks: Array) -> int:
    """Return the rank of the merge of two ids in the open-addressed table, or -1."""
    pair = (left << 32) | right
    mask = pairs.size - 1
    slot = np.int64(keyed(np.uint64(0), np.uint64(pair)) & np.uint64(mask))
    while pairs[slot] != NONE:
        if pairs[slot] == pair:
            return int(ranks[slot])
        slot = (slot + 1) & mask
    return NONE


@_compiled
def fill_table(left: Array, right: Array, pairs: Array, ranks: Array) -> None:
    """Enter merges, int64 each, into the table `pairs`, filled with -1, whose size is a power of two."""
    mask = pairs.size - 1
    for rank in range(left.size):
        pair = (left[rank] << 32) | right[rank]
        slot = np.int64(keyed(np.uint64(0), np.uint64(pair)) & np.uint64(mask))
        while pairs[slot] != NONE and pairs[slot] != pair:
            slot = (slot + 1) & mask
        pairs[slot] = pair
        ranks[slot] = rank


@_compiled
def push(heap: Array, size: int, item: int) -> int:
    """Put `item` into the binary heap; return its new size."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if heap[above] <= item:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = item
    return size + 1


@_compiled
def pop(heap: Array, size: int) -> int:
    """Take the least item, `heap[0]`, out of the binary heap; return its new size."""
    size -= 1
    item, at = heap[size], 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= item:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = item
    return size


@_compiled
def merge(
    ids: Array, length: int, chance: Any, key: Any, pairs: Array, ranks: Array, merged: Array, work: Array, heap: Array
) -> int:
    """Merge `ids[:length]` in place, each candidate dropped where its draw is below `chance`; return the new length.

    `work` is int64 [3, length at least], `heap` int64 [4 × length at least].
    """
    before, after, rank_at = work[0], work[1], work[2]  # neighbours; rank of the pair that begins here
    size = 0
    for at in range(length):
        before[at], after[at], rank_at[at] = at - 1, at + 1, NONE
        if at + 1 < length:
            rank_at[at] = rank_of(ids[at], ids[at + 1], pairs, ranks)
            if rank_at[at] != NONE:
                size = push(heap, size, (rank_at[at] << 32) | at)
    aside = heap.size  # dropped ones lie at the far end, until the next merge
    number = np.uint64(0)
    while size:
        item = heap[0]
        size = pop(heap, size)
        at, rank = item & 0xFFFFFFFF, item >> 32
        if rank_at[at] != rank:
            continue
        dropped = (keyed(key, number) >> S32) < chance
        number += ONE
        if dropped:
            aside -= 1
            heap[aside] = item
            continue
        while aside < heap.size:
            size = push(heap, size, heap[aside])
            aside += 1
        right = after[at]
        ids[at] = merged[rank]
        rank_at[right] = NONE
        after[at] = after[right]
        if after[right] < length:
            before[after[right]] = at
            rank_at[at] = rank_of(ids[at], ids[after[right]], pairs, ranks)
            if rank_at[at] != NONE:
                size = push(heap, size, (rank_at[at] << 32) | at)
        else:
            rank_at[at] = NONE
        left = before[at]
        if left >= 0:
            rank_at[left] = rank_of(ids[left], ids[at], pairs, ranks)
            if rank_at[left] != NONE:
                size = push(heap, size, (rank_at[left] << 32) | left)
    new, at = 0, 0
    while at < length:
        ids[new] = ids[at]
        new += 1
        at = after[at]
    return new


@_compiled
def merge_words(
    symbols: Array, offsets: Array, pairs: Array, ranks: Array, merged: Array, longest: int, out: Array, lengths: Array
) -> int:
    """Merge each word without dropout into `out`, and their lengths into `lengths`; return the ids written."""
    ids = np.empty(longest, dtype=np.int64)
    work = np.empty((3, longest), dtype=np.int64)
    heap = np.empty(4 * longest, dtype=np.int64)
    never = np.uint64(0)
    written = 0
    for word in range(lengths.size):
        start, length = offsets[word], offsets[word + 1] - offsets[word]
        for i in range(length):
            ids[i] = symbols[start + i]
        length = merge(ids, length, never, never, pairs, ranks, merged, work, heap[: 4 * length])
        for i in range(length):
            out[written + i] = ids[i]
        written += length
        lengths[word] = length
    return written


@_compiled
def merge_rows(
    numbers: Array,
    offsets: Array,
    first: int,
    end: int,
    key: Any,
    chance: Any,
    symbols: Array,
    symbol_offsets: Array,
    best: Array,
    best_offsets: Array,
    pairs: Array,
    ranks: Array,
    merged: Array,
    longest: int,
    out: Array,
    lengths: Array,
) -> int:
    """Encode rows `first` to `end` with dropout into `out`, and their lengths into `lengths`; return the ids written.

    A word that no draw changes is copied from `best`: as many draws as its merges, none of them below `chance`.
    """
    ids = np.empty(longest, dtype=np.int64)
    work = np.empty((3, longest), dtype=np.int64)
    heap = np.empty(4 * longest, dtype=np.int64)
    written = 0
    for row in range(first, end):
        begun, row_key = written, keyed(key, np.uint64(row))
        for at in range(offsets[row], offsets[row + 1]):
            word = numbers[at]
            word_key = keyed(row_key, np.uint64(at - offsets[row]))
            start, length = symbol_offsets[word], symbol_offsets[word + 1] - symbol_offsets[word]
            best_start, best_length = best_offsets[word], best_offsets[word + 1] - best_offsets[word]
            kept = True
            for number in range(length - best_length):
                if (keyed(word_key, np.uint64(number)) >> S32) < chance:
                    kept = False
                    break
            if kept:
                for i in range(best_length):
                    out[written + i] = best[best_start + i]
                written += best_length
                continue
            for i in range(length):
                ids[i] = symbols[start + i]
            length = merge(ids, length, chance, word_key, pairs, ranks, merged, work, heap[: 4 * length])
            for i in range(length):
                out[written + i] = ids[i]
            written += length
        lengths[row - first] = written - begun
    return written


@_compiled
def walk_rows(
    numbers: Array,
    offsets: Array,
    first: int,
    end: int,
    key: Any,
    nodes: Array,
    edge_offsets: Array,
    edge_start: Array,
    edge_id: Array,
    edge_until: Array,
    out: Array,
    lengths: Array,
) -> int:
    """Encode rows `first` to `end` by a walk back through each word's lattice; return the ids written to `out`."""
    written = 0
    for row in range(first, end):
        begun, row_key = written, keyed(key, np.uint64(row))
        for at in range(offsets[row], offsets[row + 1]):
            word = numbers[at]
            word_key = keyed(row_key, np.uint64(at - offsets[row]))
            word_begun, node, number = written, nodes[word + 1] - 1, np.uint64(0)
            while node > nodes[word]:
                drawn = (np.uint64(node) << S32) + (keyed(word_key, number) >> S32)
                number += ONE
                edge = edge_offsets[node]
                while edge_until[edge] <= drawn:
                    edge += 1
                out[written] = edge_id[edge]
                written += 1
                node = edge_start[edge]
            left, right = word_begun, written - 1
            while left < right:
                out[left], out[right] = out[right], out[left]
                left += 1
                right -= 1
        lengths[row - first] = written - begun
    return written
