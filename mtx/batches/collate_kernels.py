"""Source of the kernels that `collate_compiled.py` uses: two passes over the rows of several batches.

This module imports numba, so it is imported only to compile. Each kernel takes the address of a `KernelArguments` array
of int64 numbers and addresses. Kernels call no function of Python or numba and cannot raise, so their machine code runs
without numba and without the interpreter lock. S and T are the source and target positions of a batch.
"""

from collections.abc import Callable
from typing import Any

import numba as typed_numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils

from mtx.batches.kernel_argument_array import DAMAGED, DONE, NO_SUCH_ROW, NUM_ARRAYS, KernelArguments

numba: Any = typed_numba  # untyped, since numba's annotations lack some options and the signature of intrinsics
carray, types = numba.carray, numba.types
Decorator = Callable[[Callable[..., Any]], Any]

UInt = np.uint64  # loops over unsigned indices are vectorized, since no index is checked for being below 0
ONE, ARRAYS_ = UInt(1), UInt(NUM_ARRAYS)
BEFORE, BLOCKS = UInt(7), ~UInt(7)  # `(n + BEFORE) & BLOCKS` rounds n up to a multiple of 8 ids, copied at once
INT_BYTES, UINT32_BYTES = 8, 4  # sizes of an int64 and a uint32
NUM_SLOTS = len(KernelArguments._fields)
SLOTS = {name: UInt(number) for number, name in enumerate(KernelArguments._fields)}

STATE, NUM_BATCHES, NUM_ROWS = (SLOTS[name] for name in ("state", "num_batches", "num_rows"))
NUM_PAIRS, SELECTED, SELECTED_BYTES = (SLOTS[name] for name in ("num_pairs", "selected", "selected_bytes"))
BEGINS, ROWS, WIDTHS, PLACES, SCRATCH = (SLOTS[name] for name in ("begins", "rows", "widths", "places", "scratch"))
# Each side has six slots from this one on: ids, num_ids, offsets, room, pad, eos.
SOURCE, TARGET = SLOTS["source_ids"], SLOTS["target_ids"]
IDS, NUM_IDS, OFFSETS, ROOM, PAD, EOS = (UInt(number) for number in range(6))
SOURCE_EXTRA, BOS, LABEL_PAD = (SLOTS[name] for name in ("source_extra", "target_bos", "label_pad"))

_inner_kernel: Decorator = numba.njit(error_model="numpy")
# Wrappers for Python and C are left out, since their code calls numba and Python.
_entry_point: Decorator = numba.njit(
    types.void(types.int64), error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)

_intrinsic: Decorator = numba.extending.intrinsic


@_intrinsic
def _pointer(_: Any, address: Any) -> Any:
    """Convert an int64 address to a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@_inner_kernel
def _int_array(address: int, size: int) -> Any:
    return carray(_pointer(address), (size,), np.int64)


@_inner_kernel
def _scratch_part(call: Any, which: int, num_rows: int, begin: int, end: int) -> Any:
    """Return the entries of `scratch[which]` for the rows from `begin` to `end`, exclusive."""
    return _int_array(call[SCRATCH] + INT_BYTES * (which * num_rows + begin), end - begin)


@_entry_point
def measure(address: int) -> None:
    """Find the row of each pair, the start and the length of each row, and the longest row of each batch.

    Fills `scratch`, int64 [4, rows], with starts and truncated lengths of the sources, then of the targets. Fills
    `widths`, int64 [batches, 2], with the longest source and target. Sets `state` to DONE, or to the error in the rows.
    After an error, ids must not be read.
    """
    call = _int_array(address, NUM_SLOTS)
    num_batches = UInt(call[NUM_BATCHES])
    begins = _int_array(call[BEGINS], call[NUM_BATCHES] + 1)
    num_rows = begins[num_batches]
    rows, scratch = _int_array(call[ROWS], num_rows), _int_array(call[SCRATCH], 4 * num_rows)
    widths = _int_array(call[WIDTHS], 2 * call[NUM_BATCHES])
    num_pairs, selected_bytes = call[NUM_PAIRS], call[SELECTED_BYTES]
    narrow = carray(_pointer(call[SELECTED]), (num_pairs,), np.uint32)
    wide = _int_array(call[SELECTED], num_pairs)
    for side in range(2):
        first = TARGET if side else SOURCE
        num_ids, capacity = call[first + NUM_IDS], call[first + ROOM]
        offsets = _int_array(call[first + OFFSETS], call[NUM_ROWS] + 1)
        starts = UInt(2 * side * num_rows)
        lengths = starts + UInt(num_rows)
        for batch in range(num_batches):
            longest = 0
            for i in range(UInt(begins[batch]), UInt(begins[batch + ONE])):
                row = rows[i]
                if row < 0 or row >= num_pairs:
                    call[STATE] = NO_SUCH_ROW
                    return
                if selected_bytes == UINT32_BYTES:
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
            widths[UInt(2) * batch + UInt(side)] = longest
    call[STATE] = DONE


@_inner_kernel
def _fill_source(
    ids: Any, starts: Any, lengths: Any, width: int, pad: int, eos: int, extra: int, table: Any, mask: Any
) -> None:
    for j in range(UInt(mask.size)):
        mask[j] = 1  # almost all positions are real tokens; padding is set to 0 below
    for i in range(UInt(starts.size)):
        start, length, row = UInt(starts[i]), UInt(lengths[i]), i * UInt(width)
        # Copying whole blocks of 8 ids avoids a loop over the rest. Values written after the row are overwritten below.
        whole = (length + BEFORE) & BLOCKS
        if row + whole > UInt(table.size) or start + whole > UInt(ids.size):
            whole = length
        for j in range(whole):
            table[row + j] = ids[start + j]
        if extra:
            table[row + length] = eos
            length += ONE
        for j in range(row + length, row + UInt(width)):
            table[j] = pad
            mask[j] = 0


@_inner_kernel
def _fill_target(
    ids: Any,
    starts: Any,
    lengths: Any,
    width: int,
    pad: int,
    bos: int,
    eos: int,
    label_pad: int,
    inputs: Any,
    labels: Any,
    mask: Any,
) -> None:
    for j in range(UInt(mask.size)):
        mask[j] = 1
    for i in range(UInt(starts.size)):
        start, length, row = UInt(starts[i]), UInt(lengths[i]), i * UInt(width)
        whole = (length + BEFORE) & BLOCKS
        if row + ONE + whole > UInt(labels.size) or start + whole > UInt(ids.size):
            whole = length
        inputs[row] = bos
        for j in range(whole):
            token = ids[start + j]
            labels[row + j] = token
            inputs[row + ONE + j] = token
        labels[row + length] = eos
        for j in range(row + length + ONE, row + UInt(width)):
            inputs[j] = pad
            labels[j] = label_pad
            mask[j] = 0


def fill_kernel(source_ids: Any, target_ids: Any) -> Any:
    """Return the kernel `fill` for source and target ids of these dtypes."""

    def fill(address: int) -> None:
        """Fill the arrays at `places` of all batches; `widths` now holds S and T of each batch."""
        call = _int_array(address, NUM_SLOTS)
        begins = _int_array(call[BEGINS], call[NUM_BATCHES] + 1)
        num_rows = begins[UInt(call[NUM_BATCHES])]
        rows, widths = _int_array(call[ROWS], num_rows), _int_array(call[WIDTHS], 2 * call[NUM_BATCHES])
        places = _int_array(call[PLACES], NUM_ARRAYS * call[NUM_BATCHES])
        sources = carray(_pointer(call[SOURCE + IDS]), (call[SOURCE + NUM_IDS],), source_ids)
        targets = carray(_pointer(call[TARGET + IDS]), (call[TARGET + NUM_IDS],), target_ids)
        for batch in range(UInt(call[NUM_BATCHES])):
            begin, end = begins[batch], begins[batch + ONE]
            at = ARRAYS_ * batch
            row_ids = _int_array(places[at], end - begin)
            for i in range(UInt(end - begin)):
                row_ids[i] = rows[UInt(begin) + i]

            width = widths[UInt(2) * batch]
            size = (end - begin) * width
            starts, lengths = _scratch_part(call, 0, num_rows, begin, end), _scratch_part(call, 1, num_rows, begin, end)
            table = _int_array(places[at + ONE], size)
            mask = carray(_pointer(places[at + UInt(2)]), (size,), np.uint8)
            pad, eos, extra = call[SOURCE + PAD], call[SOURCE + EOS], call[SOURCE_EXTRA]
            _fill_source(sources, starts, lengths, width, pad, eos, extra, table, mask)

            width = widths[UInt(2) * batch + ONE]
            size = (end - begin) * width
            starts, lengths = _scratch_part(call, 2, num_rows, begin, end), _scratch_part(call, 3, num_rows, begin, end)
            table, labels = _int_array(places[at + UInt(3)], size), _int_array(places[at + UInt(4)], size)
            mask = carray(_pointer(places[at + UInt(5)]), (size,), np.uint8)
            pad, eos, bos, label_pad = call[TARGET + PAD], call[TARGET + EOS], call[BOS], call[LABEL_PAD]
            _fill_target(targets, starts, lengths, width, pad, bos, eos, label_pad, table, labels, mask)

    return _entry_point(fill)
