"""Nested shares of the training pairs: by hash, whatever the order and the filter, and each pair is accounted for."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.none import NoFilter
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.row_trace import drop_reason, memberships, row_trace
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.training_share import pairs_in_share, share_mask
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.mixture import MixtureDownloader

PAIRS = [(f"sentence {number}", f"Satz {number}{'!' * (number % 3)}") for number in range(600)]
SHARES = (0.1, 0.25, 0.5, 1.0)


def corpus(path: Path, pairs: list[tuple[str, str]]) -> LocalDownloader:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"src": src, "tgt": tgt}) + "\n" for src, tgt in pairs))
    return LocalDownloader(path=path)


def prepared(source: Any, share: float, where: Store, filter_: Any = None) -> StageIds:
    held_out = HeldOut(validation=20)
    return prepare(Recipe(source, held_out, filter_ or NoFilter(), ByteTokenization(), share=share), where)


def trained_on(where: Store, ids: StageIds) -> list[tuple[str, str]]:
    return [(row["src"], row["tgt"]) for row in where.repo.get(ids.filtered["train"]).rows]


@pytest.fixture
def where(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)


def test_shares_are_nested_and_the_same_for_any_order_and_filter(tmp_path: Path, where: Store) -> None:
    source, turned = corpus(tmp_path / "a.jsonl", PAIRS), corpus(tmp_path / "b.jsonl", PAIRS[::-1])
    found = {share: prepared(source, share, where) for share in SHARES}
    rows = [trained_on(where, ids) for ids in found.values()]
    for smaller, larger in pairwise(rows):
        assert smaller == [pair for pair in larger if pair in set(smaller)], "a subset, in the order of the corpus"
    for share, pairs in zip(SHARES, rows, strict=True):
        assert len(pairs) == pytest.approx(share * 580, rel=0.25)
    assert sorted(trained_on(where, prepared(turned, 0.25, where))) == sorted(rows[1])
    short = prepared(source, 0.25, where, DefaultFilter(max_chars=12))
    assert trained_on(where, short) == [pair for pair in rows[1] if len(pair[0]) <= 12]
    held_out = {ids.filtered["validation"] for ids in found.values()}
    assert len(held_out) == 1, "the held-out pairs are the same"
    assert found[0.1].encoded == found[1.0].encoded, "and nothing is encoded anew"


def test_the_pairs_outside_of_a_share_are_counted_and_traced(tmp_path: Path, where: Store) -> None:
    parts = {name: corpus(tmp_path / f"{name}.jsonl", PAIRS[first::2]) for first, name in enumerate("ab")}
    ids = prepared(MixtureDownloader(sources=parts), 0.25, where, DefaultFilter(max_chars=12))
    manifest = where.repo.manifest(ids.filtered["train"])
    dropped, sources = manifest.metrics["dropped"], manifest.metrics["sources"]
    assert sum(dropped.values()) + len(manifest) == 580
    assert dropped["outside_share"] == sum(of["dropped"]["outside_share"] for of in sources.values())
    split = where.repo.get(ids.split["train"])
    inside = set(trained_on(where, ids))
    outside = next(
        row for row, pair in enumerate(split.rows) if (pair["src"], pair["tgt"]) not in inside and len(pair["src"]) < 12
    )
    found = memberships(where.repo, row_trace(where.repo, where.repo.manifest(split.id), outside))
    (filtered,) = (of for of in found if of.dataset.id == manifest.id)
    assert drop_reason(where.repo, filtered, None) == "outside_share"


def test_the_whole_is_no_share_so_that_its_ids_stay(tmp_path: Path, where: Store) -> None:
    ids = prepared(corpus(tmp_path / "a.jsonl", PAIRS[:50]), 1.0, where)
    assert "share" not in where.repo.manifest(ids.filtered["train"]).provenance


def test_a_share_does_not_depend_on_batches_or_white_space() -> None:
    texts = pa.array([f" sentence  {number} " for number in range(64)], type=pa.large_string())
    batch = pa.record_batch([texts, texts], names=["src", "tgt"])
    whole = share_mask(batch, 0.5)
    assert list(whole) == [bool(share_mask(batch.slice(row, 1), 0.5)[0]) for row in range(64)]
    plain = pa.record_batch(
        [pa.array([f"sentence {n}" for n in range(64)], type=pa.large_string()), texts], names=batch.schema.names
    )
    assert list(whole) == list(share_mask(plain, 0.5))
    assert len(share_mask(batch.slice(0, 0), 0.5)) == 0
    assert 0 < whole.sum() < 64


def test_a_share_ignores_the_prefixes_of_parts() -> None:
    def batch(tag: str) -> pa.RecordBatch:
        texts = pa.array([f"{tag}sentence {number}" for number in range(64)], type=pa.large_string())
        return pa.record_batch([texts, texts], names=["src", "tgt"])

    dropped: dict[str, int] = {}
    plain, first, second = pairs_in_share(map(batch, ("", "<de> ", "<fr> ")), 0.5, dropped, ("<de> ", "<fr> "))
    assert first.column("src").to_pylist() == [f"<de> {text}" for text in plain.column("src").to_pylist()]
    assert second.num_rows == plain.num_rows
    assert dropped == {"outside_share": 3 * (64 - plain.num_rows)}
