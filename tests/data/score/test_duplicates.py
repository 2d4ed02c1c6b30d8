"""Numbers of pairs with one source or one target, counted by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.score import duplicates
from mtx.data.score.duplicates import DuplicatesScorer
from mtx.errors import ConfigError
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.testing import check_scorer


def test_other_pairs_and_other_partners_of_each_side_are_counted() -> None:
    pairs = [("Hello", "hallo"), ("hello ", "Hallo"), ("HELLO", "servus"), ("bye", "servus"), ("", ""), ("", "x")]
    table = pa.table({name: pa.array(side, pa.large_string()) for name, side in zip(("src", "tgt"), zip(*pairs))})  # noqa: B905
    found = check_scorer(DuplicatesScorer(), table).to_pydict()
    assert found == {
        "source": [-2.0, -2.0, -2.0, 0.0, -1.0, -1.0],
        "target": [-1.0, -1.0, -1.0, -1.0, 0.0, 0.0],
        "targets_of_source": [-1.0, -1.0, -1.0, 0.0, -1.0, -1.0],
        "sources_of_target": [0.0, 0.0, -1.0, -1.0, 0.0, 0.0],
    }


def columns(pairs: list[tuple[str, str]], scratch: Path, batch_rows: int) -> dict[str, list[float]]:
    scratch.mkdir()
    table = pa.Table.from_pylist([{"src": source, "tgt": target} for source, target in pairs], schema=PAIR_SCHEMA)
    found = DuplicatesScorer().corpus_columns(lambda: iter(table.to_batches(batch_rows)), len(pairs), scratch)
    return {name: column.to_pylist() for name, column in found.items()}


@pytest.mark.parametrize(("bytes_per_pair", "bits"), [(120, 0), (2_000_000, 1), (300_000_000, 8)])
def test_parts_in_files_give_what_a_python_count_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_per_pair: int, bits: int
) -> None:
    monkeypatch.setattr(duplicates, "BYTES_PER_PAIR", bytes_per_pair)
    rng = np.random.default_rng(0)
    pairs = [(f"s{one}", f"t{other}") for one, other in rng.integers(0, 25, (400, 2)).tolist()]
    assert DuplicatesScorer()._part_bits(len(pairs)) == bits
    sources, targets = zip(*pairs, strict=True)
    distinct = set(pairs)
    assert columns(pairs, tmp_path / "a", 7) == {
        "source": [1 - sources.count(source) for source in sources],
        "target": [1 - targets.count(target) for target in targets],
        "targets_of_source": [1 - sum(one == source for one, _ in distinct) for source in sources],
        "sources_of_target": [1 - sum(other == target for _, other in distinct) for target in targets],
    }


def test_a_corpus_that_needs_more_memory_is_refused_with_the_least_value() -> None:
    with pytest.raises(
        ConfigError, match=r"2,000,000,000 pairs need at least 0\.95 GB of memory, but memory_gb is 0\.5"
    ):
        DuplicatesScorer()._part_bits(2_000_000_000)
    assert DuplicatesScorer(memory_gb=0.95)._part_bits(2_000_000_000) == 8
