"""Compiled kernels of subword sampling, with results equal to those of `bpe_dropout.py` and `unigram_sampling.py`.

This module imports numba, an optional dependency, so only `compiled_sampling_kernels` in `subword_sampling.py` imports
it. All functions release the GIL. Random numbers are those of `counter_rng.py`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.compiled_kernels import compiled
from mtx.data.tokenize import counter_rng, lattice_edges

Array = NDArray[Any]

STEP, MIX1, MIX2, ONE = (np.uint64(number) for number in (counter_rng.STEP, counter_rng.MIX1, counter_rng.MIX2, 1))
S27, S30, S31, S32 = (np.uint64(number) for number in (27, 30, 31, 32))
NO_RANK = -1


find_edges = compiled(lattice_edges.find_edges)
weigh_edges = compiled(lattice_edges.weigh_edges)


@compiled
def derived_key(key: Any, number: Any) -> Any:
    """Return the key of part number `number` (uint64) of `key`; see `counter_rng.derived_keys`."""
    mixed = (number + ONE) * STEP + key
    mixed = (mixed ^ (mixed >> S30)) * MIX1
    mixed = (mixed ^ (mixed >> S27)) * MIX2
    return mixed ^ (mixed >> S31)


@compiled
def rank_of(left: int, right: int, pairs: Array, ranks: Array) -> int:
    """Return the rank of the merge of two ids in the hash table, or -1 if there is no such merge."""
    pair = (left << 32) | right
    mask = pairs.size - 1
    slot = np.int64(derived_key(np.uint64(0), np.uint64(pair)) & np.uint64(mask))
    while pairs[slot] != NO_RANK:
        if pairs[slot] == pair:
            return int(ranks[slot])
        slot = (slot + 1) & mask
    return NO_RANK


@compiled
def fill_table(left: Array, right: Array, pairs: Array, ranks: Array) -> None:
    """Fill the hash table: `pairs`, filled with -1, of a power of two as size, and `ranks`, from merges (int64)."""
    mask = pairs.size - 1
    for rank in range(left.size):
        pair = (left[rank] << 32) | right[rank]
        slot = np.int64(derived_key(np.uint64(0), np.uint64(pair)) & np.uint64(mask))
        while pairs[slot] != NO_RANK and pairs[slot] != pair:
            slot = (slot + 1) & mask
        pairs[slot] = pair
        ranks[slot] = rank


@compiled
def push(heap: Array, size: int, item: int) -> int:
    """Insert `item` into the binary heap, and return the new size of the heap."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if heap[above] <= item:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = item
    return size + 1


@compiled
def pop(heap: Array, size: int) -> int:
    """Remove the smallest item, `heap[0]`, from the binary heap, and return the new size of the heap."""
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


@compiled
def merge(
    ids: Array, length: int, chance: Any, key: Any, pairs: Array, ranks: Array, merged: Array, work: Array, heap: Array
) -> int:
    """Merge `ids[:length]` in place, and return the new length; a merge is dropped if its draw is below `chance`.

    `work` is int64 [3, at least length], `heap` is int64 [at least 4 × length].
    """
    before, after, rank_at = work[0], work[1], work[2]  # previous and next symbol; rank of the pair that begins here
    size = 0
    for at in range(length):
        before[at], after[at], rank_at[at] = at - 1, at + 1, NO_RANK
        if at + 1 < length:
            rank_at[at] = rank_of(ids[at], ids[at + 1], pairs, ranks)
            if rank_at[at] != NO_RANK:
                size = push(heap, size, (rank_at[at] << 32) | at)
    aside = heap.size  # dropped merges are stored at the end of `heap` until the next merge
    number = np.uint64(0)
    while size:
        item = heap[0]
        size = pop(heap, size)
        at, rank = item & 0xFFFFFFFF, item >> 32
        if rank_at[at] != rank:
            continue
        dropped = (derived_key(key, number) >> S32) < chance
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
        rank_at[right] = NO_RANK
        after[at] = after[right]
        if after[right] < length:
            before[after[right]] = at
            rank_at[at] = rank_of(ids[at], ids[after[right]], pairs, ranks)
            if rank_at[at] != NO_RANK:
                size = push(heap, size, (rank_at[at] << 32) | at)
        else:
            rank_at[at] = NO_RANK
        left = before[at]
        if left >= 0:
            rank_at[left] = rank_of(ids[left], ids[at], pairs, ranks)
            if rank_at[left] != NO_RANK:
                size = push(heap, size, (rank_at[left] << 32) | left)
    new, at = 0, 0
    while at < length:
        ids[new] = ids[at]
        new += 1
        at = after[at]
    return new


@compiled
def merge_words(
    symbols: Array, offsets: Array, pairs: Array, ranks: Array, merged: Array, longest: int, out: Array, lengths: Array
) -> int:
    """Merge each word without dropout into `out`, fill `lengths` with the numbers of ids, and return their sum."""
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


@compiled
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
    """Encode the rows from `first` to `end` with dropout; fill `out` and `lengths`, and return the number of ids.

    A word is copied from `best` if none of its first draws, as many as the word has merges, is below `chance`.
    """
    ids = np.empty(longest, dtype=np.int64)
    work = np.empty((3, longest), dtype=np.int64)
    heap = np.empty(4 * longest, dtype=np.int64)
    written = 0
    for row in range(first, end):
        begun, row_key = written, derived_key(key, np.uint64(row))
        for at in range(offsets[row], offsets[row + 1]):
            word = numbers[at]
            word_key = derived_key(row_key, np.uint64(at - offsets[row]))
            start, length = symbol_offsets[word], symbol_offsets[word + 1] - symbol_offsets[word]
            best_start, best_length = best_offsets[word], best_offsets[word + 1] - best_offsets[word]
            kept = True
            for number in range(length - best_length):
                if (derived_key(word_key, np.uint64(number)) >> S32) < chance:
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


@compiled
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
    """Encode the rows from `first` to `end` by drawing edges from each word's last node; return the number of ids."""
    written = 0
    for row in range(first, end):
        begun, row_key = written, derived_key(key, np.uint64(row))
        for at in range(offsets[row], offsets[row + 1]):
            word = numbers[at]
            word_key = derived_key(row_key, np.uint64(at - offsets[row]))
            word_begun, node, number = written, nodes[word + 1] - 1, np.uint64(0)
            while node > nodes[word]:
                drawn = (np.uint64(node) << S32) + (derived_key(word_key, number) >> S32)
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
