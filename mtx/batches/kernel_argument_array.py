"""Arguments of the compiled kernels in `collate_kernels.py`, as one array of int64 numbers in memory."""

from typing import NamedTuple

NUM_ARRAYS = 6  # arrays of a batch: row ids; source ids, mask; decoder ids, labels, target mask
# arrays of a flat batch: row ids; source ids, offsets, positions; decoder ids, labels, target offsets, positions
NUM_FLAT_ARRAYS = 8
NUM_CAUSAL_ARRAYS = 5  # arrays of a decoder-only batch: ids, positions, labels, segments; row ids
DONE, NO_SUCH_ROW, DAMAGED, TOO_LONG = 0, -1, -2, -3  # values of `state` after the kernels `measure` and `place`
NUM_SCRATCH, NUM_CAUSAL_SCRATCH = 4, 6  # numbers of a row in `scratch`


class KernelArguments(NamedTuple):
    """Arguments of the kernels `measure` and `fill`, as int64 numbers in this order. An array is passed as its address.

    Attributes:
        state: output of `measure` and `place`: DONE, NO_SUCH_ROW, DAMAGED or TOO_LONG.
        num_rows: number of rows of the encoded pairs.
        num_pairs: number of pairs that can be requested: of selected rows, or of all rows.
        selected: row number of each pair, uint32 or int64 [num_pairs]; not read if `selected_bytes` is 0.
        selected_bytes: size of a number in `selected`: 4 or 8; 0: the number of a pair is the number of its row.
        num_batches: number of batches to build.
        begins: int64 [batches + 1]; batch k has `rows[begins[k]:begins[k + 1]]`.
        widths: int64 [batches, 2]; `measure` writes the longest source and target of each batch, after truncation;
            `fill` reads S and T; `fill` of flat batches reads the numbers of source and target tokens. With
            decoder-only batches, `place` reads and writes R and L, and `fill` reads them.
        totals: int64 [batches, 2]; `measure` writes the sums of the truncated lengths of each batch, source and target.
        places: int64 [batches, NUM_ARRAYS], addresses of the arrays to fill: int64 [B]; int64 and bool [B, S]; int64,
            int64 and bool [B, T]. Flat batches have NUM_FLAT_ARRAYS arrays, and decoder-only batches NUM_CAUSAL_ARRAYS.
        rows: int64, numbers of the pairs of all batches.
        scratch: int64 [NUM_SCRATCH, rows]; see `measure`. Decoder-only batches have NUM_CAUSAL_SCRATCH numbers a row.
        source_ids: source ids of all rows, of the dtype for which `fill` was compiled.
        source_num_ids: number of source ids of all rows.
        source_offsets: int64 [num_rows + 1], start of each row in `source_ids`.
        source_room: largest number of source ids of a row; further ids are cut off.
        source_pad: id that fills source ids.
        source_eos: id that ends source ids, if `source_extra` is 1.
        target_ids: target ids of all rows; see `source_ids`.
        target_num_ids: number of target ids of all rows.
        target_offsets: int64 [num_rows + 1], start of each row in `target_ids`.
        target_room: largest number of target ids of a row; further ids are cut off.
        target_pad: id that fills decoder ids.
        target_eos: id that ends labels.
        source_extra: 1 if each source ends with EOS, else 0.
        target_bos: id that starts decoder ids.
        label_pad: value that fills labels after EOS.
    """

    state: int
    num_rows: int
    num_pairs: int
    selected: int
    selected_bytes: int
    num_batches: int
    begins: int
    widths: int
    totals: int
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


class PromptArguments(NamedTuple):
    """Further arguments of the kernels of decoder-only batches, which follow `KernelArguments` in the array.

    Attributes:
        variants: variant of the prompt of each pair, uint32 or int64 [num_pairs]; not read if `variant_bytes` is 0.
        variant_bytes: size of a number in `variants`: 4 or 8; 0: all pairs have variant 0.
        num_variants: number of different prompts.
        most_prompt: largest number of tokens before the target; the source is cut to fit.
        length_multiple: L is rounded up to a multiple of this number; 0: one row without padding.
        before_ids: int64, ids before the source, of all variants.
        before_num_ids: number of ids before the source, of all variants.
        before_offsets: int64 [num_variants + 1], start of each variant in `before_ids`.
        between_ids: int64, ids between source and target, of all variants.
        between_num_ids: number of ids between source and target, of all variants.
        between_offsets: int64 [num_variants + 1], start of each variant in `between_ids`.
    """

    variants: int
    variant_bytes: int
    num_variants: int
    most_prompt: int
    length_multiple: int
    before_ids: int
    before_num_ids: int
    before_offsets: int
    between_ids: int
    between_num_ids: int
    between_offsets: int
