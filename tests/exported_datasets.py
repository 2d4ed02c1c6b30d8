"""Datasets with difficult texts and token ids, for the tests of export and import."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

NASTY = [
    {"src": "plain", "tgt": "schlicht"},
    {"src": "", "tgt": "empty"},
    {"src": "NUL \x00 inside", "tgt": "\x1b[31m escape"},
    {"src": "line\u2028separator\u2029and\x85next", "tgt": "\ufeffBOM\ufeff"},
    {"src": "\u202eright to left", "tgt": "zero\u200dwidth 👩‍👩‍👧"},
    {"src": "x" * 100_000, "tgt": "e\u0301 é"},
    {"src": '"quotes", \ttabs', "tgt": "<b>&amp;</b>"},
]
BROKEN = [*NASTY, {"src": "two\nlines", "tgt": "back\\slash"}, {"src": "a", "tgt": "carriage\rreturn"}]


def store_in(root: Path) -> Store:
    return Store(root=root, objects=partial(SQLiteObjectLayer), files=partial(ArrowFileLayer))


def dataset_of(data: Any, dataset_id: str = "raw-train-1", **fields: Any) -> TranslationDataset:
    described: dict[str, Any] = {
        "name": "n",
        "stage": "raw",
        "split": "train",
        "languages": ("en", "de"),
        "provenance": {"revision": "1", "_target_": "os.system"},
        "metrics": {"skipped": {"blank": 2}},
        **fields,
    }
    return TranslationDataset(id=dataset_id, data=data, **described)


TOKENIZER = {
    "version": "1.0",
    "model": {"type": "WordLevel", "vocab": {"<UNK>": 0, "last": 65535}, "unk_token": "<UNK>"},
}


def write_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))


def encoded(store: Store) -> TranslationDataset:
    store.tokenizers.get_or_build("tokenizer-1", write_tokenizer, {"stage": "tokenizer"})
    ids = pa.large_list(pa.uint16())
    table = pa.table(
        {
            "source_ids": pa.array([[1, 2, 65535], []], ids),
            "target_ids": pa.array([[4], [5, 6]], ids),
            "num_target_bytes": pa.array([3, 4], pa.int64()),
        }
    )
    inputs = {"inputs": ["raw-train-1", "tokenizer-1"]}
    return store.repo.add(dataset_of(table, "encoded-train-1", stage="encoded", provenance=inputs, n=2))
