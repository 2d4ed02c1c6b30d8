"""Source of the kernels that `collate_compiled.py` uses: two passes over the rows of several batches.

This module imports numba, so it is imported only to compile. Each kernel takes the address of a `KernelArguments` array
of int64 numbers and addresses. Kernels call no function of Python or numba and cannot raise, so their machine code runs
without numba and without the interpreter lock. S and T are the source and target positions of a batch.
"""

from typing import Any

import numpy as np

from mtx.batches.kernel_argument_array import DAMAGED, DONE, NO_SUCH_ROW, NUM_ARRAYS, KernelArguments
from mtx.batches.kernel_memory import (
    INT32_BYTES,
    INT_BYTES,
    ONE,
    UInt,
    carray,
    entry_point,
    inner_kernel,
    int_array,
    pointer,
    row_writer,
    types,
)

NUM_SLOTS = len(KernelArguments._fields)
SLOTS = {name: UInt(number) for number, name in enumerate(KernelArguments._fields)}

STATE, NUM_BATCHES, NUM_ROWS = (SLOTS[name] for name in ("state", "num_batches", "num_rows"))
NUM_PAIRS, SELECTED, SELECTED_BYTES = (SLOTS[name] for name in ("num_pairs", "selected", "selected_bytes"))
BEGINS, ROWS, WIDTHS, TOTALS = (SLOTS[name] for name in ("begins", "rows", "widths", "totals"))
PLACES, SCRATCH = SLOTS["places"], SLOTS["scratch"]
# Each side has six slots from this one on: ids, num_ids, offsets, room, pad, eos.
SOURCE, TARGET = SLOTS["source_ids"], SLOTS["target_ids"]
IDS, NUM_IDS, OFFSETS, ROOM, PAD, EOS = (UInt(number) for number in range(6))
SOURCE_EXTRA, BOS, LABEL_PAD = (SLOTS[name] for name in ("source_extra", "target_bos", "label_pad"))


@inner_kernel
def batch_bounds(call: Any, batch: int) -> tuple[int, int]:
    """Return the first row of a batch, and the row after its last one."""
    begins = int_array(call[BEGINS], call[NUM_BATCHES] + 1)
    return begins[UInt(batch)], begins[UInt(batch) + ONE]


@inner_kernel
def scratch_part(call: Any, which: int, batch: int) -> Any:
    """Return the entries of `scratch[which]` for the rows of a batch."""
    begin, end = batch_bounds(call, batch)
    num_rows = int_array(call[BEGINS], call[NUM_BATCHES] + 1)[UInt(call[NUM_BATCHES])]
    return int_array(call[SCRATCH] + INT_BYTES * (which * num_rows + begin), end - begin)


@inner_kernel
def batch_places(call: Any, batch: int, num_arrays: int) -> Any:
    """Return the addresses of the arrays of a batch."""
    return int_array(call[PLACES] + INT_BYTES * num_arrays * batch, num_arrays)


@inner_kernel
def batch_width(call: Any, batch: int, side: int) -> int:
    """Return the number in `widths` of a side of a batch."""
    width: int = int_array(call[WIDTHS], 2 * call[NUM_BATCHES])[UInt(2 * batch + side)]
    return width


@inner_kernel
def fill_row_ids(call: Any, batch: int, place: int) -> None:
    """Copy the numbers of the pairs of a batch to the address `place`."""
    begin, end = batch_bounds(call, batch)
    rows, row_ids = int_array(call[ROWS] + INT_BYTES * begin, end - begin), int_array(place, end - begin)
    for i in range(UInt(end - begin)):
        row_ids[i] = rows[i]


@entry_point
def measure(address: int) -> None:
    """Find the row of each pair, the start and the length of each row, and the longest row of each batch.

    Fills `scratch`, int64 [4, rows], with starts and truncated lengths of the sources, then of the targets. Fills
    `widths`, int64 [batches, 2], with the longest source and target, and `totals`, int64 [batches, 2], with the sums of
    the lengths. Sets `state` to DONE, or to the error in the rows. After an error, ids must not be read.
    """
    call = int_array(address, NUM_SLOTS)
    num_batches = UInt(call[NUM_BATCHES])
    begins = int_array(call[BEGINS], call[NUM_BATCHES] + 1)
    num_rows = begins[num_batches]
    rows, scratch = int_array(call[ROWS], num_rows), int_array(call[SCRATCH], 4 * num_rows)
    widths, totals = int_array(call[WIDTHS], 2 * call[NUM_BATCHES]), int_array(call[TOTALS], 2 * call[NUM_BATCHES])
    num_pairs, selected_bytes = call[NUM_PAIRS], call[SELECTED_BYTES]
    narrow = carray(pointer(call[SELECTED]), (num_pairs,), np.uint32)
    wide = int_array(call[SELECTED], num_pairs)
    for side in range(2):
        first = TARGET if side else SOURCE
        num_ids, capacity = call[first + NUM_IDS], call[first + ROOM]
        offsets = int_array(call[first + OFFSETS], call[NUM_ROWS] + 1)
        starts = UInt(2 * side * num_rows)
        lengths = starts + UInt(num_rows)
        for batch in range(num_batches):
            longest = total = 0
            for i in range(UInt(begins[batch]), UInt(begins[batch + ONE])):
                row = rows[i]
                if row < 0 or row >= num_pairs:
                    call[STATE] = NO_SUCH_ROW
                    return
                if selected_bytes == INT32_BYTES:
                    row = types.int64(narrow[UInt(row)])
                elif selected_bytes == INT_BYTES:
                    row = wide[UInt(row)]
                if row < 0 or row >= call[NUM_ROWS]:
                    call[STATE] = DAMAGED
                    return
                start, end = offsets[UInt(row)], offsets[UInt(row) + ONE]
                if start < 0 or end < start or end > num_ids:
                    call[STATE] = DAMAGED
                    return
                length = min(end - start, capacity)
                scratch[starts + i], scratch[lengths + i] = start, length
                longest = max(longest, length)
                total += length
            widths[UInt(2) * batch + UInt(side)] = longest
            totals[UInt(2) * batch + UInt(side)] = total
    call[STATE] = DONE


def _source_filler(id_type: Any) -> Any:
    write_row = row_writer(id_type)

    @inner_kernel
    def fill_source(address: int, batch: int) -> None:
        call = int_array(address, NUM_SLOTS)
        starts, lengths = scratch_part(call, 0, batch), scratch_part(call, 1, batch)
        ids, num_ids = call[SOURCE + IDS], call[SOURCE + NUM_IDS]
        pad, eos, extra = call[SOURCE + PAD], call[SOURCE + EOS], call[SOURCE_EXTRA]
        width, places = batch_width(call, batch, 0), batch_places(call, batch, NUM_ARRAYS)
        size = starts.size * width
        table, mask = int_array(places[1], size), carray(pointer(places[2]), (size,), np.uint8)
        for j in range(UInt(size)):
            mask[j] = 1  # almost all positions are real tokens; padding is set to 0 below
        for i in range(UInt(starts.size)):
            start, length, row = starts[i], lengths[i], types.int64(i) * width
            # What is written after the row is overwritten by padding and by the next row.
            write_row(ids, num_ids, start, length, size - row, places[1] + INT_BYTES * row, 0, 0)
            if extra:
                table[UInt(row + length)] = eos
                length += 1
            for j in range(UInt(row + length), UInt(row + width)):
                table[j] = pad
                mask[j] = 0

    return fill_source


def _target_filler(id_type: Any) -> Any:
    write_row = row_writer(id_type, shifted=True)

    @inner_kernel
    def fill_target(address: int, batch: int) -> None:
        call = int_array(address, NUM_SLOTS)
        starts, lengths = scratch_part(call, 2, batch), scratch_part(call, 3, batch)
        ids, num_ids = call[TARGET + IDS], call[TARGET + NUM_IDS]
        pad, eos, bos, label_pad = call[TARGET + PAD], call[TARGET + EOS], call[BOS], call[LABEL_PAD]
        width, places = batch_width(call, batch, 1), batch_places(call, batch, NUM_ARRAYS)
        size = starts.size * width
        inputs, labels = int_array(places[3], size), int_array(places[4], size)
        mask = carray(pointer(places[5]), (size,), np.uint8)
        for j in range(UInt(size)):
            mask[j] = 1
        for i in range(UInt(starts.size)):
            start, length, row = starts[i], lengths[i], types.int64(i) * width
            at = INT_BYTES * row
            write_row(ids, num_ids, start, length, size - row, places[4] + at, places[3] + at, 0)
            inputs[UInt(row)] = bos
            labels[UInt(row + length)] = eos
            for j in range(UInt(row + length + 1), UInt(row + width)):
                inputs[j] = pad
                labels[j] = label_pad
                mask[j] = 0

    return fill_target


def fill_kernel(source_ids: Any, target_ids: Any) -> Any:
    """Return the kernel `fill` for source and target ids of these dtypes."""
    fill_source, fill_target = _source_filler(source_ids), _target_filler(target_ids)

    def fill(address: int) -> None:
        """Fill the arrays at `places` of all batches; `widths` now holds S and T of each batch."""
        call = int_array(address, NUM_SLOTS)
        for batch in range(call[NUM_BATCHES]):
            fill_row_ids(call, batch, batch_places(call, batch, NUM_ARRAYS)[0])
            fill_source(address, batch)
            fill_target(address, batch)

    return entry_point(fill)
