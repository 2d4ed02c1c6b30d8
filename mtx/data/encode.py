"""Text to token ids, once per (dataset, tokenizer).

The ids of each side lie in one flat array with offsets (an Arrow LargeList in a single record batch), so that
loaders map them into memory and read them without a Python object a row.
"""

import mmap
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.progress import track
from mtx.data.tokenize.base import encode_texts
from mtx.data.tokenize.pair import TokenizerPair
from mtx.infra.dal.rows import Rows
from mtx.infra.dataset.collate import EncodedPairs, TokenRows

ROWS_AT_ONCE = 8192  # texts given to the tokenizer's threads together


def encode_pairs(
    pairs: pa.Table, tokenizers: TokenizerPair, *, scratch: Path, counts: dict[str, int]
) -> Iterator[pa.RecordBatch]:
    """Encode all pairs and yield one record batch, in the order of the pairs.

    Args:
        pairs: columns `src` and `tgt`.
        tokenizers: of `src` and `tgt`; no special tokens are added.
        scratch: folder for temporary files of the size of the ids; memory stays bounded.
        counts: gets `source_tokens`, `target_tokens`, `source_chars`, `target_chars`, `target_bytes`,
            `source_unknown`, `target_unknown`.

    Yields:
        `source_ids`, `target_ids`: large_list of uint16, or uint32 where the vocabulary needs it;
        `num_target_bytes`: int64, UTF-8 bytes of the target text.
    """
    source, target = tokenizers.source, tokenizers.target
    with (
        _Spool(source, tokenizers.source_ids.unk, scratch) as source_spool,
        _Spool(target, tokenizers.target_ids.unk, scratch) as target_spool,
    ):
        for batch in track(pairs.to_batches(max_chunksize=ROWS_AT_ONCE), "encoding", pairs.num_rows):
            source_spool.add(batch["src"])
            target_spool.add(batch["tgt"])
        num_bytes = pc.cast(pc.binary_length(pairs["tgt"]), pa.int64())
        for side, spool, column in (("source", source_spool, pairs["src"]), ("target", target_spool, pairs["tgt"])):
            counts[f"{side}_tokens"] = spool.num_tokens
            counts[f"{side}_unknown"] = spool.num_unknown
            counts[f"{side}_chars"] = pc.sum(pc.utf8_length(column)).as_py() or 0
        counts["target_bytes"] = pc.sum(num_bytes).as_py() or 0
        columns = {
            "source_ids": source_spool.array(),
            "target_ids": target_spool.array(),
            "num_target_bytes": num_bytes.combine_chunks(),
        }
        yield pa.record_batch(columns)


def encoded_pairs(rows: Rows) -> EncodedPairs:
    """View the rows of an encoded dataset as flat arrays, without a copy where they are memory-mapped."""
    return EncodedPairs(_token_rows(rows.table["source_ids"]), _token_rows(rows.table["target_ids"]))


class _Spool:
    """Collects the ids of one side in a temporary file."""

    def __init__(self, tokenizer: Tokenizer, unknown_id: int, scratch: Path) -> None:
        size = max(tokenizer.get_vocab().values(), default=0) + 1
        self.dtype: Any = np.uint16 if size <= np.iinfo(np.uint16).max + 1 else np.uint32
        self.num_tokens = 0
        self.num_unknown = 0
        self._tokenizer = tokenizer
        self._unknown = unknown_id
        self._lengths: list[NDArray[np.int64]] = []
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, texts: pa.Array) -> None:
        rows = encode_texts(self._tokenizer, texts.to_pylist())
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter(chain.from_iterable(rows), dtype=self.dtype, count=int(lengths.sum()))
        self._lengths.append(lengths)
        self.num_tokens += len(ids)
        self.num_unknown += int(np.count_nonzero(ids == self._unknown))
        self._file.write(ids.data)

    def array(self) -> pa.LargeListArray:
        lengths = np.concatenate([np.zeros(1, dtype=np.int64), *self._lengths])
        self._file.flush()
        if self.num_tokens:
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            values: NDArray[Any] = np.frombuffer(mapped, dtype=self.dtype)
        else:
            values = np.empty(0, dtype=self.dtype)
        return pa.LargeListArray.from_arrays(pa.array(np.cumsum(lengths)), pa.array(values))


def _token_rows(column: pa.ChunkedArray) -> TokenRows:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all
        array = pa.array([], type=column.type)
    return TokenRows(array.values.to_numpy(), array.offsets.to_numpy())
