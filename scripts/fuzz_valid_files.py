"""Valid files from which the fuzzer starts, one or more of each format that mtx reads."""

import io
import json
import sqlite3
import struct
import tempfile
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def sentences() -> bytes:
    """Return the content of a file with the statistics of held-out pairs."""
    import tempfile

    import numpy as np

    from mtx.evaluation.corpus_metrics import score_statistics
    from mtx.records.held_out_sentences import complete_held_out, write_likelihoods

    with tempfile.TemporaryDirectory() as folder:
        write_likelihoods(Path(folder), np.array([[0.0, 1.0, 2.0], [1.5, 2.5, 3.5], [3.0, 4.0, 5.0]]))
        scores = score_statistics([0, 2], ["a b", "c"], ["a c", "d"], tokenizer="13a")
        made = complete_held_out(Path(folder), digest="d", documents=np.array([0, 0, -1]), scores=scores)
        assert made is not None
        return made.read_bytes()


def long_window(data: bytes) -> bytes:
    """Return a zstd frame with one raw block and a window of 256 MB."""
    return b"\x28\xb5\x2f\xfd" + bytes([0, 18 << 3]) + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def parquet(table: pa.Table) -> bytes:
    """Return the content of a Parquet file with the table."""
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


def ipc(table: pa.Table) -> bytes:
    """Return the content of an Arrow file with the table."""
    made = io.BytesIO()
    with pa.ipc.new_file(made, table.schema) as writer:
        writer.write_table(table)
    return made.getvalue()


def zstd(data: bytes) -> bytes:
    """Return the data, compressed with zstd."""
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def sqlite(value: str) -> bytes:
    """Return the content of a SQLite database with one manifest."""
    from mtx.infra.dal.sqlite import SQLiteObjectLayer

    with tempfile.TemporaryDirectory() as folder:
        SQLiteObjectLayer(location=folder).create("raw-1", json.loads(value))
        path = Path(folder) / "manifests.sqlite"
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode=DELETE")
        return path.read_bytes()


def bpe(tokenizer: object) -> bytes:
    """Return the content of a tokenizer file with a merge and a normalizer."""
    said = json.loads(tokenizer.to_str())  # type: ignore[attr-defined]  # a Tokenizer
    said["normalizer"] = {"type": "NFC"}
    said["model"]["vocab"]["ab"] = max(said["model"]["vocab"].values()) + 1
    said["model"]["merges"] = [["a", "b"]]
    return json.dumps(said).encode()


def weights() -> bytes:
    """Return the content of a checkpoint file."""
    import torch

    made = io.BytesIO()
    torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict(), "epoch": 1}, made)
    return made.getvalue()


def mo(entries: list[tuple[str, str]]) -> bytes:
    """Return the content of a compiled gettext catalogue (.mo)."""
    keys = [key.encode() for key, _ in entries]
    values = [value.encode() for _, value in entries]
    head = 28
    at = head + 16 * len(entries)
    tables: list[bytes] = []
    for texts in (keys, values):
        for text in texts:
            tables.append(struct.pack("<II", len(text), at))
            at += len(text) + 1
    texts_block = b"".join(text + b"\0" for text in (*keys, *values))
    first = struct.pack("<IIIIIII", 0x950412DE, 0, len(entries), head, head + 8 * len(entries), 0, 0)
    return first + b"".join(tables) + texts_block
