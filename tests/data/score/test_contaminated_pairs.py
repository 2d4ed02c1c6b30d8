"""Training pairs are compared with held-out ones: what matches, and the same with and without compiled kernels."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.score.contaminated_pairs import HashTable, HeldOutSides, mask_batches

WORDS = ["one", "TWO", "three", "ﬁve", "東京", "に", "שָׁלוֹם", "👍", "...", "—", "é", "e\u0301", "\x00", "ไทย", "x1"]


def pairs(texts: list[tuple[str, str]]) -> pa.RecordBatch:
    schema = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
    return pa.RecordBatch.from_pylist([{"src": src, "tgt": tgt} for src, tgt in texts], schema=schema)


def masks(held_out: pa.RecordBatch, batch: pa.RecordBatch, *, compiled: bool) -> list[list[bool]]:
    sides = HeldOutSides.of([held_out], compiled=compiled)
    found = list(sides.masks([batch]))
    return np.concatenate(found, axis=1).tolist() if found else []


@pytest.mark.parametrize("compiled", [True, False])
def test_texts_and_ngrams_that_are_held_out_are_found(compiled: bool) -> None:
    held_out = pairs([("One two, three four five six seven eight nine.", "Ende!"), ("...", ""), ("ﬁsh", "東京に")])
    batch = pairs(
        [
            ("one TWO three four five six seven eight nine", "q"),  # the text and its n-grams
            ("so: two three four five six seven eight nine and more", "q"),  # the second 8-gram
            ("two three four five six seven eight", "ende"),  # no whole 8-gram; the target
            ("...", ""),  # punctuation alone is compared as it is, and an empty text never
            ("..", "東京に"),
            ("fish", "に東京"),
        ]
    )
    source, target, ngram = masks(held_out, batch, compiled=compiled)
    assert source == [True, False, False, True, False, True]
    assert target == [False, False, True, False, True, False]
    assert ngram == [True, True, True, False, True, True]


def test_compiled_kernels_find_the_same() -> None:
    rng = random.Random(1)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.choice([0, 1, 2, 9, 30])))

    texts = [(text(), text()) for _ in range(4000)]
    held_out = pairs(texts[:40])
    batch = pairs([*texts, ("word " * 20_000, "か\u3099" * 50_000), ("one  TWO", "\u0301"), texts[0]])
    found = masks(held_out, batch, compiled=True)
    assert found == masks(held_out, batch, compiled=False)
    assert all(0 < sum(mask) < batch.num_rows for mask in found)


def test_a_task_finds_the_same_in_files(tmp_path: Path) -> None:
    held_out, batch = pairs([("a b", "c")]), pairs([("A b!", "d"), ("e", "C"), ("e", "d")])
    HeldOutSides.of([held_out], compiled=False).save(tmp_path)
    (found,) = mask_batches(tmp_path, False, iter([batch]), 0, {})
    assert [column.to_pylist() for column in found.columns] == masks(held_out, batch, compiled=False)


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_a_table_has_each_hash_in_its_bucket(size: int) -> None:
    ascending = np.unique(np.random.default_rng(0).integers(0, 2**64, size, dtype=np.uint64))
    table = HashTable.of(ascending)
    bucket = (ascending >> table.shift).astype(np.int64)
    places = np.arange(len(ascending))
    assert (table.buckets[bucket] <= places).all()
    assert (places < table.buckets[bucket + 1]).all()
    assert (table.buckets[0], table.buckets[-1]) == (0, len(ascending))
