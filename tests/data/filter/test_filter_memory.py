"""A filter with a folder for temporary files keeps the same pairs in less memory."""

from pathlib import Path

import pyarrow as pa
import pytest

from mtx.components.identity import identity
from mtx.data.filter import pair_set
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.data.filter.spilled_hashes import SpilledHashes
from mtx.errors import ConfigError


@pytest.mark.parametrize("keeper", [DefaultFilter(), SelectionFilter(before=DefaultFilter())])
def test_duplicates_are_those_of_a_search_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeper: PairFilter
) -> None:
    texts = [f"text {number % 700}" for number in range(2000)]
    pairs = pa.table({"src": pa.array(texts, pa.large_string()), "tgt": pa.array(["x"] * 2000, pa.large_string())})
    runs: list[int] = []
    add_run = SpilledHashes.add_run
    monkeypatch.setattr(SpilledHashes, "add_run", lambda self, n, parts: (runs.append(n), add_run(self, n, parts)))
    monkeypatch.setattr("mtx.data.bounded_pair_batches.ROWS_PER_BATCH", 30)
    monkeypatch.setattr(pair_set, "MIN_SLOTS", 4)
    monkeypatch.setattr(pair_set, "BYTES_PER_SLOT", 10**9 // 64)  # 64 slots
    kept: list[list[str]] = []
    for filter_ in (keeper, keeper.with_scratch(tmp_path)):
        batches = filter_.apply(iter(pairs.to_batches(max_chunksize=30)), dropped := {})
        kept.append([text for batch in batches for text in batch["src"].to_pylist()])
        assert dropped == {"duplicate": 1300}
    assert kept == [texts[:700]] * 2
    assert runs
    assert identity(keeper.with_scratch(tmp_path)) == identity(keeper)


def test_the_memory_of_a_filter_is_no_part_of_its_identity_and_has_a_least_value() -> None:
    assert identity(DefaultFilter(memory_gb=0.1)) == identity(DefaultFilter())
    with pytest.raises(ConfigError, match=r"filter.memory_gb is a number of at least 0\.1, but is 0\.05\. Set"):
        DefaultFilter(memory_gb=0.05)
