"""The encoded stage: converts text to token ids, once per text dataset and tokenizer.

The token ids cover all rows of the text, so every split and filter selection reuses them. The ids of each side are one
flat array with offsets (an Arrow LargeList in one record batch). Loaders memory-map this array and create no Python
object per row.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.cpu_count import granted_cores
from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.stage_runner import row_range_batches
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.data.tokenize.cached_encoding import FlatEncoder
from mtx.data.tokenize.language_tokens import LeadingIds
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.errors import DamagedError
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.chunked_columns import joined_batch
from mtx.infra.dal.column_file import ColumnFile
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.progress.progress_log import say

# Bytes of text, both sides together, that are encoded at once. Memory is about 10 times this size. A larger block
# encodes faster, because each of its distinct pieces is looked up only once.
BLOCK_BYTES = 1 << 24
ROWS_PER_COUNT = 1 << 18  # number of rows whose token ids are counted, or copied, at once


class PairEncoder:
    """The function of the encoded stage: converts record batches of text to token ids.

    The two encoders are created at the first call, and keep the ids of frequent pieces for later calls. They are no
    part of a pickle, so that each process has its own.

    Args:
        tokenizers: tokenizers of `src` and `tgt`; no special tokens are added.
        scratch: folder for temporary files as large as the token ids, so that memory is limited to a few hundred MB.
    """

    def __init__(self, tokenizers: TokenizerPair, scratch: Path) -> None:
        self.tokenizers = tokenizers
        self.scratch = scratch
        self._encoders: tuple[FlatEncoder, FlatEncoder] | None = None

    def __reduce__(self) -> tuple[type["PairEncoder"], tuple[TokenizerPair, Path]]:
        return PairEncoder, (self.tokenizers, self.scratch)

    @property
    def encoders(self) -> tuple[FlatEncoder, FlatEncoder]:
        """The encoders of the source and the target side; one object if both sides have one tokenizer."""
        if self._encoders is None:
            source, target = self.tokenizers.source, self.tokenizers.target
            first = FlatEncoder.of(source)
            self._encoders = first, (first if target is source else FlatEncoder.of(target))
        return self._encoders

    def __call__(
        self, batches: Iterator[pa.RecordBatch], first: int, counts: dict[str, int]
    ) -> Iterator[pa.RecordBatch]:
        """Encode pairs, and yield all of them as one record batch in the order of the input.

        Args:
            batches: record batches with the columns `src` and `tgt`, and `src_id` and `tgt_id` if ids of language
                tokens come before the ids of the texts.
            first: number of the first pair; unused, since the result does not depend on it.
            counts: receives `source_tokens` and `target_tokens`, the totals over all pairs.

        Yields:
            `source_ids`, `target_ids`: large_list of uint16, or of uint32 if the vocabulary needs it;
                `num_source_bytes`, `num_target_bytes`: int64, UTF-8 bytes of the texts.
        """
        with _IdSpool(self.scratch) as source, _IdSpool(self.scratch) as target:
            for block in _text_blocks(batches):
                for spool, encoder, name in zip((source, target), self.encoders, ("src", "tgt"), strict=True):
                    lengths, ids = _with_leading_ids(block, name, *encoder.encode(block[name]))
                    spool.add(lengths, ids, pc.cast(pc.binary_length(block[name]), pa.int64()).to_numpy())
            counts["source_tokens"], counts["target_tokens"] = source.num_tokens, target.num_tokens
            for side, encoder in zip(("source", "target"), self.encoders, strict=True):
                counted = {"pieces": encoder.counts.pieces, "share": f"{encoder.counts.hit_rate:.4f}"}
                say("prepare", f"encoding: pieces of the {side} with known ids", counted)
            yield _record_batch(source, target)


def text_range_batches(
    opened: list[tuple[Rows, int, LeadingIds | None]], first: int, end: int
) -> Iterator[pa.RecordBatch]:
    """Stream the texts of rows `first` to `end` (exclusive) of several concatenated datasets.

    Texts with language tokens also have the columns `src_id` and `tgt_id`, the ids of these tokens.
    """
    start = 0
    for rows, num_rows, leading in opened:
        low, high = max(first - start, 0), min(end - start, num_rows)
        if low < high:
            for batch in row_range_batches(rows, low, high):
                texts = batch.select(["src", "tgt"])
                for side, number in zip(("src", "tgt"), leading or (), strict=False):
                    texts = texts.append_column(f"{side}_id", pa.array(np.full(batch.num_rows, number)))
                yield texts
        start += num_rows


def _with_leading_ids(
    block: pa.RecordBatch, side: str, lengths: NDArray[np.int64], ids: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the ids per row and the ids of all rows with the language token of each row before its ids."""
    if f"{side}_id" not in block.schema.names:
        return lengths, ids
    starts = np.cumsum(lengths) - lengths
    return lengths + 1, np.insert(ids, starts, block.column(f"{side}_id").to_numpy().astype(ids.dtype))


def joined_ids(batches: Iterator[pa.RecordBatch], *, scratch: Path) -> Iterator[pa.RecordBatch]:
    """Join record batches of `PairEncoder` into one, so that the ids of each side are one array; in bounded memory."""
    head = next(batches)
    more = next(batches, None)
    if more is None:
        yield head
        return
    with _IdSpool(scratch) as source, _IdSpool(scratch) as target:
        for batch in chain([head, more], batches):
            for spool, side in ((source, "source"), (target, "target")):
                ids, num_bytes = batch.column(f"{side}_ids"), batch.column(f"num_{side}_bytes").to_numpy()
                offsets, values = ids.offsets.to_numpy(), ids.values.to_numpy()
                for start in range(0, max(len(num_bytes), 1), ROWS_PER_COUNT):
                    part = offsets[start : start + ROWS_PER_COUNT + 1]
                    spool.add(np.diff(part), values[part[0] : part[-1]], num_bytes[start : start + ROWS_PER_COUNT])
        yield _record_batch(source, target)


def token_counts(pairs: EncodedPairs, tokenizers: TokenizerPair) -> dict[str, int]:
    """Count the tokens of encoded pairs by side.

    Returns:
        For each side `…_tokens`, `…_unknown` (unknown tokens), and `…_unused`: the number of vocabulary entries,
            without special tokens, that do not occur on the side. In a joint vocabulary, `…_unused` counts entries that
            occur on neither side.
    """
    counts: dict[str, int] = {}
    used: dict[str, NDArray[np.bool_]] = {}
    specials = tokenizers.source_ids, tokenizers.target_ids
    vocabularies = [
        np.fromiter(tokenizer.get_vocab().values(), dtype=np.int64)
        for tokenizer in (tokenizers.source, tokenizers.target)
    ]
    sizes = [max(int(ids.max(initial=0)), *special) + 1 for ids, special in zip(vocabularies, specials, strict=True)]
    with ThreadPoolExecutor(granted_cores()) as threads:
        frequencies = threads.map(_id_frequencies, (pairs.source, pairs.target), [pairs.selection] * 2, sizes)
    for side, ids, special, of_id in zip(("source", "target"), vocabularies, specials, frequencies, strict=True):
        counts[f"{side}_tokens"] = int(of_id.sum())
        counts[f"{side}_unknown"] = int(of_id[special.unk])
        found = np.ones(len(of_id), dtype=np.bool_)  # ids without a token and special tokens never count as unused
        names = np.setdiff1d(ids, special)
        found[names] = of_id[names] > 0
        used[side] = found
    for side in used:
        seen = used["source"] | used["target"] if tokenizers.joint else used[side]
        counts[f"{side}_unused"] = int(np.count_nonzero(~seen))
    return counts


def _id_frequencies(rows: TokenRows, selection: NDArray[Any] | None, size: int) -> NDArray[np.int64]:
    """Return how often each token id occurs in the selected rows, int64 [size]."""
    total = np.zeros(size, dtype=np.int64)
    is_chosen = None
    if selection is not None and len(selection) < len(rows):
        is_chosen = np.zeros(len(rows), dtype=np.bool_)
        is_chosen[selection] = True
    for start in range(0, len(rows), ROWS_PER_COUNT):
        offsets = rows.offsets[start : start + ROWS_PER_COUNT + 1]
        ids = rows.ids[offsets[0] : offsets[-1]]
        if is_chosen is not None:
            ids = ids[np.repeat(is_chosen[start : start + ROWS_PER_COUNT], np.diff(offsets))]
        total += np.bincount(ids, minlength=size)[:size]
    return total


def encoded_pairs(rows: Rows, selection: NDArray[Any] | None = None) -> EncodedPairs:
    """Return the rows of an encoded dataset as flat arrays, without a copy if the rows are memory-mapped.

    Raises DamagedError if an offset or a row number lies outside the rows.
    """
    if selection is not None and len(selection) and not 0 <= selection.min() <= selection.max() < len(rows):
        raise DamagedError(
            f"row numbers {selection.min()} to {selection.max()} refer to token ids beyond the existing {len(rows)} "
            f"rows. {VERIFY_HINT}"
        )
    if selection is not None and _is_every_row(selection, len(rows)):
        selection = None  # saves a random access for each row of a batch
    return EncodedPairs(_token_rows(rows.table["source_ids"]), _token_rows(rows.table["target_ids"]), selection)


def _is_every_row(numbers: NDArray[Any], num_rows: int) -> bool:
    """Return whether `numbers`, which lie within the rows, are all row numbers in order."""
    return len(numbers) == num_rows and bool((numbers[1:] > numbers[:-1]).all())


def _record_batch(source: "_IdSpool", target: "_IdSpool") -> pa.RecordBatch:
    return pa.record_batch(
        {
            "source_ids": source.array(),
            "target_ids": target.array(),
            "num_source_bytes": source.num_bytes(),
            "num_target_bytes": target.num_bytes(),
        }
    )


def _text_blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Stream the pairs in their order, joined into record batches of about `BLOCK_BYTES`."""
    held: list[pa.RecordBatch] = []
    num_bytes = 0
    for batch in pair_batches(batches):
        if held and num_bytes + batch.nbytes > BLOCK_BYTES:
            yield joined_batch(held)
            held, num_bytes = [], 0
        held.append(batch)
        num_bytes += batch.nbytes
    yield joined_batch(held)


class _IdSpool:
    """Collects the token ids and the lengths of one side in temporary files, so that no row takes memory."""

    def __init__(self, scratch: Path) -> None:
        self.num_tokens = 0
        self._dtype: Any = np.uint16
        self._ids, self._ends, self._num_bytes = (ColumnFile(scratch) for _ in range(3))
        self._ends.append(np.zeros(1, dtype=np.int64))

    def __enter__(self) -> "_IdSpool":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._ids, self._ends, self._num_bytes):
            file.close()

    def add(self, lengths: NDArray[np.int64], ids: NDArray[Any], num_bytes: NDArray[np.int64]) -> None:
        """Append rows: token ids per row (`lengths`), the concatenated ids, and the UTF-8 bytes of each row's text."""
        self._dtype = ids.dtype
        self._ends.append(np.cumsum(lengths, dtype=np.int64) + self.num_tokens)
        self._num_bytes.append(num_bytes)
        self._ids.append(ids)
        self.num_tokens += len(ids)

    def num_bytes(self) -> pa.Array:
        """Return the UTF-8 bytes of each row's text, int64 [n], memory-mapped."""
        return pa.array(self._num_bytes.values(np.int64))

    def array(self) -> pa.LargeListArray:
        """Return the token ids of all rows, memory-mapped."""
        return pa.LargeListArray.from_arrays(
            pa.array(self._ends.values(np.int64)), pa.array(self._ids.values(self._dtype))
        )


def _token_rows(column: pa.ChunkedArray) -> TokenRows:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # a column without chunks
        array = pa.array([], type=column.type)
    return TokenRows(array.values.to_numpy(), array.offsets.to_numpy())
