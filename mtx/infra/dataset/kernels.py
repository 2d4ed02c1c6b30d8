"""What `gather.py` has compiled: the two passes over the rows of some batches.

Imports numba, so it is imported only where nothing is compiled yet. Each function takes the address of a `Call`: int64
numbers and addresses. None calls anything of Python's or numba's, or can raise, so the machine code that comes out
runs without numba, and beside threads that hold the interpreter's lock. S source and T target positions.
"""

from collections.abc import Callable
from typing import Any

import numba as typed_numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils

from mtx.infra.dataset.call import ARRAYS, DAMAGED, DONE, NO_SUCH_ROW, Call

numba: Any = typed_numba  # whose types know neither all options nor what an intrinsic takes
carray, types = numba.carray, numba.types
Decorator = Callable[[Callable[..., Any]], Any]

U = np.uint64  # loops over such indices become vector code: no index is looked at for being below 0
ONE, ARRAYS_ = U(1), U(ARRAYS)
BEFORE, BLOCKS = U(7), ~U(7)  # `(n + BEFORE) & BLOCKS` is n rounded up to ids that are copied at once
BYTES = 8  # of an int64
NUM_SLOTS = len(Call._fields)
SLOTS = {name: U(number) for number, name in enumerate(Call._fields)}

STATE, NUM_BATCHES, NUM_ROWS = (SLOTS[name] for name in ("state", "num_batches", "num_rows"))
BEGINS, ROWS, WIDTHS, PLACES, SCRATCH = (SLOTS[name] for name in ("begins", "rows", "widths", "places", "scratch"))
# Of each side, from here on: ids, num_ids, offsets, room, pad, eos.
SOURCE, TARGET = SLOTS["source_ids"], SLOTS["target_ids"]
IDS, NUM_IDS, OFFSETS, ROOM, PAD, EOS = (U(number) for number in range(6))
SOURCE_EXTRA, BOS, LABEL_PAD = (SLOTS[name] for name in ("source_extra", "target_bos", "label_pad"))

_part: Decorator = numba.njit(error_model="numpy")
# Without wrappers for Python and C, which would ask for numba and Python.
_entry: Decorator = numba.njit(
    types.void(types.int64), error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)

_intrinsic: Decorator = numba.extending.intrinsic


@_intrinsic
def _pointer(_: Any, address: Any) -> Any:
    """Take an int64 for an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@_part
def _ints(address: int, size: int) -> Any:
    return carray(_pointer(address), (size,), np.int64)


@_part
def _noted(call: Any, which: int, num_rows: int, begin: int, end: int) -> Any:
    """Return the part of `scratch[which]` that is of the rows from `begin` to `end`, exclusive."""
    return _ints(call[SCRATCH] + BYTES * (which * num_rows + begin), end - begin)


@_entry
def measure(address: int) -> None:
    """Note where each row begins and how many ids of it fit, and the longest of each batch.

    Fills `scratch`, int64 [4, rows]: starts and lengths of the sources, then of the targets; and `widths`, int64
    [batches, 2]; and `state`: DONE, or what is wrong with the rows: then nothing of their ids may be read.
    """
    call = _ints(address, NUM_SLOTS)
    num_batches = U(call[NUM_BATCHES])
    begins = _ints(call[BEGINS], call[NUM_BATCHES] + 1)
    num_rows = begins[num_batches]
    rows, scratch = _ints(call[ROWS], num_rows), _ints(call[SCRATCH], 4 * num_rows)
    widths = _ints(call[WIDTHS], 2 * call[NUM_BATCHES])
    for side in range(2):
        first = TARGET if side else SOURCE
        num_ids, room = call[first + NUM_IDS], call[first + ROOM]
        offsets = _ints(call[first + OFFSETS], call[NUM_ROWS] + 1)
        starts = U(2 * side * num_rows)
        lengths = starts + U(num_rows)
        for batch in range(num_batches):
            longest = 0
            for i in range(U(begins[batch]), U(begins[batch + ONE])):
                row = rows[i]
                if row < 0 or row >= call[NUM_ROWS]:
                    call[STATE] = NO_SUCH_ROW
                    return
                start, end = offsets[U(row)], offsets[U(row) + ONE]
                if start < 0 or end < start or end > num_ids:
                    call[STATE] = DAMAGED
                    return
                length = min(end - start, room)
                scratch[starts + i], scratch[lengths + i] = start, length
                longest = max(longest, length)
            widths[U(2) * batch + U(side)] = longest
    call[STATE] = DONE


@_part
def _fill_source(
    ids: Any, starts: Any, lengths: Any, width: int, pad: int, eos: int, extra: int, table: Any, mask: Any
) -> None:
    for j in range(U(mask.size)):
        mask[j] = 1  # as almost everything is: the rest is set below
    for i in range(U(starts.size)):
        start, length, row = U(starts[i]), U(lengths[i]), i * U(width)
        # Whole blocks need no loop over what is left. What they write behind the row is written again.
        whole = (length + BEFORE) & BLOCKS
        if row + whole > U(table.size) or start + whole > U(ids.size):
            whole = length
        for j in range(whole):
            table[row + j] = ids[start + j]
        if extra:
            table[row + length] = eos
            length += ONE
        for j in range(row + length, row + U(width)):
            table[j] = pad
            mask[j] = 0


@_part
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
    for j in range(U(mask.size)):
        mask[j] = 1
    for i in range(U(starts.size)):
        start, length, row = U(starts[i]), U(lengths[i]), i * U(width)
        whole = (length + BEFORE) & BLOCKS
        if row + ONE + whole > U(labels.size) or start + whole > U(ids.size):
            whole = length
        inputs[row] = bos
        for j in range(whole):
            token = ids[start + j]
            labels[row + j] = token
            inputs[row + ONE + j] = token
        labels[row + length] = eos
        for j in range(row + length + ONE, row + U(width)):
            inputs[j] = pad
            labels[j] = label_pad
            mask[j] = 0


def filler(source_ids: Any, target_ids: Any) -> Any:
    """Return `fill` for ids of these types."""

    def fill(address: int) -> None:
        """Fill the arrays at `places` of all batches, whose `widths` are now S and T."""
        call = _ints(address, NUM_SLOTS)
        begins = _ints(call[BEGINS], call[NUM_BATCHES] + 1)
        num_rows = begins[U(call[NUM_BATCHES])]
        rows, widths = _ints(call[ROWS], num_rows), _ints(call[WIDTHS], 2 * call[NUM_BATCHES])
        places = _ints(call[PLACES], ARRAYS * call[NUM_BATCHES])
        sources = carray(_pointer(call[SOURCE + IDS]), (call[SOURCE + NUM_IDS],), source_ids)
        targets = carray(_pointer(call[TARGET + IDS]), (call[TARGET + NUM_IDS],), target_ids)
        for batch in range(U(call[NUM_BATCHES])):
            begin, end = begins[batch], begins[batch + ONE]
            at = ARRAYS_ * batch
            row_ids = _ints(places[at], end - begin)
            for i in range(U(end - begin)):
                row_ids[i] = rows[U(begin) + i]

            width = widths[U(2) * batch]
            size = (end - begin) * width
            starts, lengths = _noted(call, 0, num_rows, begin, end), _noted(call, 1, num_rows, begin, end)
            table = _ints(places[at + ONE], size)
            mask = carray(_pointer(places[at + U(2)]), (size,), np.uint8)
            pad, eos, extra = call[SOURCE + PAD], call[SOURCE + EOS], call[SOURCE_EXTRA]
            _fill_source(sources, starts, lengths, width, pad, eos, extra, table, mask)

            width = widths[U(2) * batch + ONE]
            size = (end - begin) * width
            starts, lengths = _noted(call, 2, num_rows, begin, end), _noted(call, 3, num_rows, begin, end)
            table, labels = _ints(places[at + U(3)], size), _ints(places[at + U(4)], size)
            mask = carray(_pointer(places[at + U(5)]), (size,), np.uint8)
            pad, eos, bos, label_pad = call[TARGET + PAD], call[TARGET + EOS], call[BOS], call[LABEL_PAD]
            _fill_target(targets, starts, lengths, width, pad, bos, eos, label_pad, table, labels, mask)

    return _entry(fill)
