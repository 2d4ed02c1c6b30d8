"""Source of the kernel that fills flat batches: the rows of a batch one after another, without padding.

Like `collate_kernels.py`, this module imports numba, so it is imported only to compile, and its kernel cannot raise.
"""

from typing import Any

import numpy as np

from mtx.batches.collate_kernels import (
    BEFORE,
    BEGINS,
    BLOCKS,
    BOS,
    EOS,
    IDS,
    NUM_BATCHES,
    NUM_IDS,
    NUM_SLOTS,
    ONE,
    PLACES,
    ROWS,
    SOURCE,
    SOURCE_EXTRA,
    TARGET,
    WIDTHS,
    UInt,
    _entry_point,
    _inner_kernel,
    _int_array,
    _pointer,
    _scratch_part,
    carray,
)
from mtx.batches.kernel_argument_array import NUM_FLAT_ARRAYS

FLAT_ARRAYS = UInt(NUM_FLAT_ARRAYS)
IOTA = np.arange(1024, dtype=np.int32)  # copying numbers is faster than converting a counter to int32


@_inner_kernel
def _write_positions(positions: Any, place: int, length: int) -> None:
    blocks = (length + BEFORE) & BLOCKS
    whole = length if place + blocks > UInt(positions.size) else blocks
    if whole <= UInt(IOTA.size):
        for j in range(whole):
            positions[place + j] = IOTA[j]
    else:
        for j in range(whole):
            positions[place + j] = j


@_inner_kernel
def _fill_flat_source(
    ids: Any, starts: Any, lengths: Any, eos: int, extra: int, table: Any, offsets: Any, positions: Any
) -> None:
    place = UInt(0)
    offsets[0] = 0
    for i in range(UInt(starts.size)):
        start, length = UInt(starts[i]), UInt(lengths[i])
        # Copying whole blocks of 8 ids avoids a loop over the rest. The next row overwrites what is written too far.
        whole = (length + BEFORE) & BLOCKS
        if place + whole > UInt(table.size) or start + whole > UInt(ids.size):
            whole = length
        for j in range(whole):
            table[place + j] = ids[start + j]
        if extra:
            table[place + length] = eos
            length += ONE
        _write_positions(positions, place, length)
        place += length
        offsets[i + ONE] = place


@_inner_kernel
def _fill_flat_target(
    ids: Any, starts: Any, lengths: Any, bos: int, eos: int, inputs: Any, labels: Any, offsets: Any, positions: Any
) -> None:
    place = UInt(0)
    offsets[0] = 0
    for i in range(UInt(starts.size)):
        start, length = UInt(starts[i]), UInt(lengths[i])
        whole = (length + BEFORE) & BLOCKS
        if place + ONE + whole > UInt(labels.size) or start + whole > UInt(ids.size):
            whole = length
        inputs[place] = bos
        for j in range(whole):
            token = ids[start + j]
            labels[place + j] = token
            inputs[place + ONE + j] = token
        labels[place + length] = eos
        length += ONE
        _write_positions(positions, place, length)
        place += length
        offsets[i + ONE] = place


def flat_fill_kernel(source_ids: Any, target_ids: Any) -> Any:
    """Return the kernel `fill` of flat batches for source and target ids of these dtypes."""

    def fill(address: int) -> None:
        """Fill the arrays at `places` of all batches; `widths` now holds the tokens of both sides of each batch."""
        call = _int_array(address, NUM_SLOTS)
        begins = _int_array(call[BEGINS], call[NUM_BATCHES] + 1)
        num_rows = begins[UInt(call[NUM_BATCHES])]
        rows, widths = _int_array(call[ROWS], num_rows), _int_array(call[WIDTHS], 2 * call[NUM_BATCHES])
        places = _int_array(call[PLACES], NUM_FLAT_ARRAYS * call[NUM_BATCHES])
        sources = carray(_pointer(call[SOURCE + IDS]), (call[SOURCE + NUM_IDS],), source_ids)
        targets = carray(_pointer(call[TARGET + IDS]), (call[TARGET + NUM_IDS],), target_ids)
        for batch in range(UInt(call[NUM_BATCHES])):
            begin, end = begins[batch], begins[batch + ONE]
            at = FLAT_ARRAYS * batch
            row_ids = _int_array(places[at], end - begin)
            for i in range(UInt(end - begin)):
                row_ids[i] = rows[UInt(begin) + i]

            size = widths[UInt(2) * batch]
            starts, lengths = _scratch_part(call, 0, num_rows, begin, end), _scratch_part(call, 1, num_rows, begin, end)
            table = _int_array(places[at + ONE], size)
            positions = carray(_pointer(places[at + UInt(3)]), (size,), np.int32)
            offsets = carray(_pointer(places[at + UInt(2)]), (end - begin + 1,), np.int32)
            eos, extra = call[SOURCE + EOS], call[SOURCE_EXTRA]
            _fill_flat_source(sources, starts, lengths, eos, extra, table, offsets, positions)

            size = widths[UInt(2) * batch + ONE]
            starts, lengths = _scratch_part(call, 2, num_rows, begin, end), _scratch_part(call, 3, num_rows, begin, end)
            table, labels = _int_array(places[at + UInt(4)], size), _int_array(places[at + UInt(5)], size)
            positions = carray(_pointer(places[at + UInt(7)]), (size,), np.int32)
            offsets = carray(_pointer(places[at + UInt(6)]), (end - begin + 1,), np.int32)
            eos, bos = call[TARGET + EOS], call[BOS]
            _fill_flat_target(targets, starts, lengths, bos, eos, table, labels, offsets, positions)

    return _entry_point(fill)
