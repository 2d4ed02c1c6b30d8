"""What `collate.py` tells the compiled functions of `kernels.py`, as numbers in memory."""

from typing import NamedTuple

ARRAYS = 6  # of a batch: row ids; source ids, mask; decoder ids, labels, target mask
DONE, NO_SUCH_ROW, DAMAGED = 0, -1, -2  # what `measure` returns


class Call(NamedTuple):
    """What the functions are told, as int64 numbers in this order. Arrays are given by their addresses.

    Attributes:
        state: `measure` writes DONE, NO_SUCH_ROW or DAMAGED.
        num_rows: rows of the encoded pairs.
        num_batches: batches to make.
        begins: int64 [batches + 1]; batch k has `rows[begins[k]:begins[k + 1]]`.
        widths: int64 [batches, 2]; `measure` writes the longest source and target, as cut to their room; `fill` reads
            S and T.
        places: int64 [batches, ARRAYS], the addresses of the arrays to fill: int64 [B]; int64, bool [B, S]; int64,
            int64, bool [B, T].
        rows: int64.
        scratch: int64 [4, rows].
        source_ids: of the type that `fill` was loaded for.
        source_num_ids: of all rows.
        source_offsets: int64 [num_rows + 1].
        source_room: ids that a row may have at most.
        source_pad: fills source ids.
        source_eos: closes them, if `source_extra` is 1.
        target_ids: as for the source, with what follows.
        target_num_ids: of all rows.
        target_offsets: int64 [num_rows + 1].
        target_room: ids that a row may have at most.
        target_pad: fills decoder ids.
        target_eos: closes labels.
        source_extra: 1 or 0, EOS of a source.
        target_bos: opens decoder ids.
        label_pad: fills labels.
    """

    state: int
    num_rows: int
    num_batches: int
    begins: int
    widths: int
    places: int
    rows: int
    scratch: int
    source_ids: int
    source_num_ids: int
    source_offsets: int
    source_room: int
    source_pad: int
    source_eos: int
    target_ids: int
    target_num_ids: int
    target_offsets: int
    target_room: int
    target_pad: int
    target_eos: int
    source_extra: int
    target_bos: int
    label_pad: int
