"""Source of the kernels of decoder-only batches: where each pair stands, and the tables of ids and labels.

Like `collate_kernels.py`, this module imports numba, so it is imported only to compile, and its kernels cannot raise.
R is the number of rows of a batch, L their positions. All tables are int64 [R, L].
"""

from typing import Any

import numpy as np

from mtx.batches.collate_kernels import (
    EOS,
    IDS,
    LABEL_PAD,
    NUM_BATCHES,
    NUM_IDS,
    NUM_PAIRS,
    PAD,
    ROWS,
    SOURCE,
    STATE,
    TARGET,
    WIDTHS,
    batch_bounds,
    batch_places,
    batch_width,
    fill_row_ids,
    scratch_part,
)
from mtx.batches.kernel_argument_array import (
    DAMAGED,
    DONE,
    NUM_CAUSAL_ARRAYS,
    TOO_LONG,
    KernelArguments,
    PromptArguments,
)
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

NUM_SLOTS = len(KernelArguments._fields) + len(PromptArguments._fields)
SLOTS = {name: UInt(number) for number, name in enumerate(PromptArguments._fields, len(KernelArguments._fields))}
VARIANTS, VARIANT_BYTES, NUM_VARIANTS = (SLOTS[name] for name in ("variants", "variant_bytes", "num_variants"))
MULTIPLE, MOST_PROMPT = SLOTS["length_multiple"], SLOTS["most_prompt"]
# Each part of the prompt has three slots from this one on, as a side has: ids, num_ids, offsets.
BEFORE, BETWEEN = SLOTS["before_ids"], SLOTS["between_ids"]
PART_OFFSETS = UInt(2)
# Parts of `scratch` after those of the kernel `measure`.
VARIANT_PART, PLACE_PART = 4, 5


@inner_kernel
def part_of(call: Any, part: int, variant: int) -> tuple[int, int]:
    """Return start and length of a part of a prompt; the length is -1 if the offsets do not match the ids."""
    offsets = int_array(call[part + PART_OFFSETS], call[NUM_VARIANTS] + 1)
    start, end = offsets[UInt(variant)], offsets[UInt(variant) + ONE]
    length = end - start
    if start < 0 or end < start or end > call[part + NUM_IDS]:
        length = types.int64(-1)
    return start, length


@inner_kernel
def fitted_lengths(address: int, batch: int) -> int:
    """Find the prompt of each pair of a batch, and cut sources to the room that it leaves.

    Writes the variants to `scratch`, and the positions of each whole sequence to the part of the places. Returns the
    longest sequence, or -1 if variants or offsets do not match.
    """
    call = int_array(address, NUM_SLOTS)
    begin, _ = batch_bounds(call, batch)
    sources, targets = scratch_part(call, 1, batch), scratch_part(call, 3, batch)
    variants, places = scratch_part(call, VARIANT_PART, batch), scratch_part(call, PLACE_PART, batch)
    rows = int_array(call[ROWS] + INT_BYTES * begin, sources.size)
    num_pairs, num_bytes = call[NUM_PAIRS], call[VARIANT_BYTES]
    narrow, wide = carray(pointer(call[VARIANTS]), (num_pairs,), np.uint32), int_array(call[VARIANTS], num_pairs)
    longest = types.int64(0)
    for i in range(UInt(sources.size)):
        variant = types.int64(0)
        if num_bytes == INT32_BYTES:
            variant = types.int64(narrow[UInt(rows[i])])
        elif num_bytes == INT_BYTES:
            variant = wide[UInt(rows[i])]
        if variant < 0 or variant >= call[NUM_VARIANTS]:
            return types.int64(-1)
        before, between = part_of(call, BEFORE, variant)[1], part_of(call, BETWEEN, variant)[1]
        if before < 0 or between < 0:
            return types.int64(-1)
        sources[i] = min(sources[i], max(call[MOST_PROMPT] - before - between, 0))
        variants[i], places[i] = variant, before + sources[i] + between + targets[i] + 1
        longest = max(longest, places[i])
    return longest


@entry_point
def place(address: int) -> None:
    """Find where each pair begins in the tables of its batch, after the kernel `measure`.

    Reads R and L of packed batches from `widths`, where both are 0 for other batches, and writes R and L there. Sets
    `state` to TOO_LONG if a pair is longer than a packed row, and to DAMAGED if prompts do not match.
    """
    call = int_array(address, NUM_SLOTS)
    widths, multiple = int_array(call[WIDTHS], 2 * call[NUM_BATCHES]), call[MULTIPLE]
    for batch in range(call[NUM_BATCHES]):
        longest = fitted_lengths(address, batch)
        if longest < 0:
            call[STATE] = DAMAGED
            return
        places = scratch_part(call, PLACE_PART, batch)
        first = UInt(2 * batch)
        least_rows, width = widths[first], widths[first + ONE]
        is_packed = least_rows != 0 or width != 0
        if is_packed and longest > width:
            call[STATE] = TOO_LONG
            return
        is_unpadded = not is_packed and multiple == 0
        if not is_packed and not is_unpadded:
            width = (longest + multiple - 1) // multiple * multiple
        number, used = types.int64(0), types.int64(0)
        for i in range(UInt(places.size)):
            length = places[i]
            begins_row = used + length > width if is_packed else i > 0
            if begins_row and not is_unpadded:
                number += 1
                used = 0
            places[i] = number * width + used
            used += length
        if is_unpadded:
            widths[first], widths[first + ONE] = 1, used
        else:
            num_rows = number + 1 if places.size else types.int64(0)
            widths[first], widths[first + ONE] = max(num_rows, least_rows), width
    call[STATE] = DONE


def _part_writer(id_type: Any) -> Any:
    """Return a kernel that copies ids of a side, or of a part of the prompt, to place `at` of a table of `size`."""
    write_row = row_writer(id_type)

    @inner_kernel
    def write_part(call: Any, part: int, start: int, length: int, table: int, at: int, size: int) -> None:
        write_row(call[part + IDS], call[part + NUM_IDS], start, length, size - at, table + INT_BYTES * at, 0, 0)

    return write_part


def _pair_filler(source_ids: Any, target_ids: Any) -> Any:
    write_prompt, write_source, write_target = (_part_writer(each) for each in (np.int64, source_ids, target_ids))

    @inner_kernel
    def fill_pair(address: int, batch: int, i: int, size: int) -> int:
        """Write ids and labels of pair `i` of a batch, and return the place after it."""
        call = int_array(address, NUM_SLOTS)
        number, tables = UInt(i), batch_places(call, batch, NUM_CAUSAL_ARRAYS)
        source_start, source_length = scratch_part(call, 0, batch)[number], scratch_part(call, 1, batch)[number]
        target_start, target_length = scratch_part(call, 2, batch)[number], scratch_part(call, 3, batch)[number]
        variant, at = scratch_part(call, VARIANT_PART, batch)[number], scratch_part(call, PLACE_PART, batch)[number]
        before, before_length = part_of(call, BEFORE, variant)
        between, between_length = part_of(call, BETWEEN, variant)
        labels, first, label_pad = int_array(tables[2], size), at, call[LABEL_PAD]
        # What is written after a part is overwritten by the next part, by padding or by the next pair.
        write_prompt(call, BEFORE, before, before_length, tables[0], at, size)
        at += before_length
        write_source(call, SOURCE, source_start, source_length, tables[0], at, size)
        at += source_length
        write_prompt(call, BETWEEN, between, between_length, tables[0], at, size)
        at += between_length
        for j in range(UInt(first), UInt(at)):
            labels[j] = label_pad
        write_target(call, TARGET, target_start, target_length, tables[0], at, size)
        write_target(call, TARGET, target_start, target_length, tables[2], at, size)
        at += target_length
        labels[UInt(at)] = int_array(tables[0], size)[UInt(at)] = call[TARGET + EOS]
        return at + 1

    return fill_pair


def causal_fill_kernel(source_ids: Any, target_ids: Any) -> Any:
    """Return the kernel `fill` of decoder-only batches for source and target ids of these dtypes."""
    fill_pair = _pair_filler(source_ids, target_ids)

    @inner_kernel
    def fill_batch(address: int, batch: int) -> None:
        call = int_array(address, NUM_SLOTS)
        firsts, tables = scratch_part(call, PLACE_PART, batch), batch_places(call, batch, NUM_CAUSAL_ARRAYS)
        size = batch_width(call, batch, 0) * batch_width(call, batch, 1)
        ids, positions = int_array(tables[0], size), int_array(tables[1], size)
        labels, segments = int_array(tables[2], size), int_array(tables[3], size)
        pad, label_pad, num_pairs = call[TARGET + PAD], call[LABEL_PAD], types.int64(firsts.size)
        end = types.int64(0)
        for i in range(num_pairs + 1):
            # padding before pair i, or after the last one
            first = firsts[UInt(i)] if i < num_pairs else size
            for j in range(UInt(end), UInt(first)):
                ids[j], positions[j], labels[j], segments[j] = pad, 0, label_pad, 0
            if i < num_pairs:
                end = fill_pair(address, batch, i, size)
                for j in range(UInt(end - first)):
                    positions[UInt(first) + j] = j
                for j in range(UInt(first), UInt(end)):
                    segments[j] = i + 1

    def fill(address: int) -> None:
        """Fill the tables at `places` of all batches; `widths` now holds R and L of each batch."""
        call = int_array(address, NUM_SLOTS)
        for batch in range(call[NUM_BATCHES]):
            fill_batch(address, batch)
            fill_row_ids(call, batch, batch_places(call, batch, NUM_CAUSAL_ARRAYS)[4])

    return entry_point(fill)
