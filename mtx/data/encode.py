"""Text to token ids, once per (dataset, tokenizer).

The ids of each side lie in one flat array with offsets (an Arrow LargeList in a single record batch), so that
loaders map them into memory and read them without a Python object a row.
"""

import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.pairs import SOURCE, pair_batches
from mtx.data.progress import track
from mtx.data.tokenize.pair import TokenizerPair
from mtx.data.tokenize.pieces import FlatEncoder
from mtx.infra.dal.rows import Rows
from mtx.infra.dataset.collate import EncodedPairs, SpecialIds, TokenRows

# Text that is encoded at a time, both sides together: the more, the more often a word is there already. Takes some 10
# times as much memory.
BLOCK_BYTES = 1 << 25


def encode_pairs(
    pairs: pa.Table, tokenizers: TokenizerPair, *, scratch: Path, counts: dict[str, int]
) -> Iterator[pa.RecordBatch]:
    """Encode all pairs and yield one record batch, in the order of the pairs.

    Args:
        pairs: columns `src` and `tgt`.
        tokenizers: of `src` and `tgt`; no special tokens are added.
        scratch: folder for temporary files of the size of the ids; memory stays bounded, at some hundreds of MB.
        counts: gets for each side `…_tokens`, `…_unknown`, `…_chars`, `…_bytes`, `…_words` (what stands between white
            space) and `…_unused`: entries of the vocabulary, special ones left out, that no token of the side is; of a
            joint vocabulary no token of either side.

    Yields:
        `source_ids`, `target_ids`: large_list of uint16, or uint32 where the vocabulary needs it;
        `num_target_bytes`: int64, UTF-8 bytes of the target text; `source`, where the pairs of a mixture have it.
    """
    source, target = tokenizers.source, tokenizers.target
    with (
        _Spool(source, tokenizers.source_ids, scratch) as source_spool,
        _Spool(target, tokenizers.target_ids, scratch) as target_spool,
    ):
        for block in track(_blocks(pairs), "encoding", pairs.num_rows):
            source_spool.add(block["src"])
            target_spool.add(block["tgt"])
        num_bytes = pc.cast(pc.binary_length(pairs["tgt"]), pa.int64())
        for side, spool, column in (("source", source_spool, pairs["src"]), ("target", target_spool, pairs["tgt"])):
            counts[f"{side}_tokens"] = spool.num_tokens
            counts[f"{side}_unknown"] = spool.num_unknown
            counts[f"{side}_chars"] = pc.sum(pc.utf8_length(column)).as_py() or 0
            counts[f"{side}_bytes"] = pc.sum(pc.cast(pc.binary_length(column), pa.int64())).as_py() or 0
            counts[f"{side}_words"] = spool.num_words
            used = source_spool.used | target_spool.used if tokenizers.joint else spool.used
            counts[f"{side}_unused"] = int(np.count_nonzero(~used))
        columns = {
            "source_ids": source_spool.array(),
            "target_ids": target_spool.array(),
            "num_target_bytes": num_bytes.combine_chunks(),
        }
        if SOURCE in pairs.column_names:
            columns[SOURCE] = pairs[SOURCE].combine_chunks()
        yield pa.record_batch(columns)


def encoded_pairs(rows: Rows) -> EncodedPairs:
    """View the rows of an encoded dataset as flat arrays, without a copy where they are memory-mapped."""
    return EncodedPairs(_token_rows(rows.table["source_ids"]), _token_rows(rows.table["target_ids"]))


def num_words(texts: pa.LargeStringArray) -> int:
    """Count what stands between white space in all texts together, as `len(text.split())` does in each."""
    trimmed = pc.utf8_trim_whitespace(texts)
    pieces = pc.utf8_split_whitespace(trimmed).flatten()
    return len(pieces) - (pc.sum(pc.equal(trimmed, "")).as_py() or 0)  # an empty text makes one empty piece


def _blocks(pairs: pa.Table) -> Iterator[pa.RecordBatch]:
    """Stream the pairs in the same order, in record batches of about `BLOCK_BYTES`."""
    held: list[pa.RecordBatch] = []
    num_bytes = 0
    for batch in pair_batches(pairs):
        if held and num_bytes + batch.nbytes > BLOCK_BYTES:
            yield _joined(held)
            held, num_bytes = [], 0
        held.append(batch)
        num_bytes += batch.nbytes
    yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


class _Spool:
    """Collects the ids of one side in a temporary file."""

    def __init__(self, tokenizer: Tokenizer, special: SpecialIds, scratch: Path) -> None:
        self.num_tokens = 0
        self.num_unknown = 0
        self.num_words = 0
        ids = np.fromiter(tokenizer.get_vocab().values(), dtype=np.int64)
        self.used: NDArray[np.bool_] = np.ones(max(int(ids.max(initial=0)), *special) + 1, dtype=np.bool_)
        self.used[np.setdiff1d(ids, special)] = False  # numbers that name no token, and special ones, are never unused
        self._encoder = FlatEncoder.of(tokenizer)
        self._unknown = special.unk
        self._lengths: list[NDArray[np.int64]] = []
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, texts: pa.LargeStringArray) -> None:
        lengths, ids = self._encoder.encode(texts)
        self._lengths.append(lengths)
        self.num_tokens += len(ids)
        self.num_unknown += int(np.count_nonzero(ids == self._unknown))
        self.num_words += num_words(texts)
        self.used[ids] = True
        self._file.write(ids.data)

    def array(self) -> pa.LargeListArray:
        lengths = np.concatenate([np.zeros(1, dtype=np.int64), *self._lengths])
        self._file.flush()
        if self.num_tokens:
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            values: NDArray[Any] = np.frombuffer(mapped, dtype=self._encoder.dtype)
        else:
            values = np.empty(0, dtype=self._encoder.dtype)
        return pa.LargeListArray.from_arrays(pa.array(np.cumsum(lengths)), pa.array(values))


def _token_rows(column: pa.ChunkedArray) -> TokenRows:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all
        array = pa.array([], type=column.type)
    return TokenRows(array.values.to_numpy(), array.offsets.to_numpy())
