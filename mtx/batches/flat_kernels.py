"""Source of the kernel that fills flat batches: the rows of a batch one after another, without padding.

Like `collate_kernels.py`, this module imports numba, so it is imported only to compile, and its kernel cannot raise.
"""

from typing import Any

import numpy as np

from mtx.batches.collate_kernels import (
    BOS,
    EOS,
    IDS,
    NUM_BATCHES,
    NUM_IDS,
    NUM_SLOTS,
    SOURCE,
    SOURCE_EXTRA,
    TARGET,
    batch_places,
    batch_width,
    fill_row_ids,
    scratch_part,
)
from mtx.batches.kernel_argument_array import NUM_FLAT_ARRAYS
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
)


def _source_filler(id_type: Any) -> Any:
    write_row = row_writer(id_type, positions=True)

    @inner_kernel
    def fill_source(address: int, batch: int) -> None:
        call = int_array(address, NUM_SLOTS)
        starts, lengths = scratch_part(call, 0, batch), scratch_part(call, 1, batch)
        ids, num_ids, eos, extra = call[SOURCE + IDS], call[SOURCE + NUM_IDS], call[SOURCE + EOS], call[SOURCE_EXTRA]
        size, places = batch_width(call, batch, 0), batch_places(call, batch, NUM_FLAT_ARRAYS)
        table, offsets = int_array(places[1], size), carray(pointer(places[2]), (starts.size + 1,), np.int32)
        place = 0
        offsets[0] = 0
        for i in range(UInt(starts.size)):
            start, length = starts[i], lengths[i]
            # The next row overwrites what is written after this one.
            to, positions = places[1] + INT_BYTES * place, places[3] + INT32_BYTES * place
            write_row(ids, num_ids, start, length, size - place, to, 0, positions)
            if extra:
                table[UInt(place + length)] = eos
                length += 1
            place += length
            offsets[i + ONE] = place

    return fill_source


def _target_filler(id_type: Any) -> Any:
    write_row = row_writer(id_type, shifted=True, positions=True)

    @inner_kernel
    def fill_target(address: int, batch: int) -> None:
        call = int_array(address, NUM_SLOTS)
        starts, lengths = scratch_part(call, 2, batch), scratch_part(call, 3, batch)
        ids, num_ids, eos, bos = call[TARGET + IDS], call[TARGET + NUM_IDS], call[TARGET + EOS], call[BOS]
        size, places = batch_width(call, batch, 1), batch_places(call, batch, NUM_FLAT_ARRAYS)
        inputs, labels = int_array(places[4], size), int_array(places[5], size)
        offsets = carray(pointer(places[6]), (starts.size + 1,), np.int32)
        place = 0
        offsets[0] = 0
        for i in range(UInt(starts.size)):
            start, length = starts[i], lengths[i]
            at, positions = INT_BYTES * place, places[7] + INT32_BYTES * place
            write_row(ids, num_ids, start, length, size - place, places[5] + at, places[4] + at, positions)
            inputs[UInt(place)] = bos
            labels[UInt(place + length)] = eos
            place += length + 1
            offsets[i + ONE] = place

    return fill_target


def flat_fill_kernel(source_ids: Any, target_ids: Any) -> Any:
    """Return the kernel `fill` of flat batches for source and target ids of these dtypes."""
    fill_source, fill_target = _source_filler(source_ids), _target_filler(target_ids)

    def fill(address: int) -> None:
        """Fill the arrays at `places` of all batches; `widths` now holds the tokens of both sides of each batch."""
        call = int_array(address, NUM_SLOTS)
        for batch in range(call[NUM_BATCHES]):
            fill_row_ids(call, batch, batch_places(call, batch, NUM_FLAT_ARRAYS)[0])
            fill_source(address, batch)
            fill_target(address, batch)

    return entry_point(fill)
