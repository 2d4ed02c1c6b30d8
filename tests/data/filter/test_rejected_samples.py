"""A few of the pairs that each rule drops: which, how they are cut, and that nothing but their text decides."""

from collections import Counter
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.concatenated_corpus import SourceTally
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import DropCounts, count_dropped
from mtx.data.filter.rejected_samples import MAX_SAMPLES, RejectSample, excerpt
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA

PAIRS = [("a", "A"), ("b", "B"), ("same", "same"), ("", "C"), ("d", "D"), ("same", "same"), ("e" * 400, "E" * 380)]


def table(pairs: list[tuple[str, str]]) -> pa.Table:
    return pa.Table.from_pylist([{"src": src, "tgt": tgt} for src, tgt in pairs], schema=PAIR_SCHEMA)


def sampled(*parts: pa.Table | pa.RecordBatch) -> list[object]:
    sample = RejectSample()
    for part in parts:
        sample.offer(part, np.ones(part.num_rows, dtype=np.bool_))
    return list(sample.as_json())


def test_each_rule_keeps_what_it_drops_as_it_came() -> None:
    dropped = DropCounts()
    kept = sum(batch.num_rows for batch in DefaultFilter().apply(table([*PAIRS, ("", "<b>x</b>")]), dropped))
    assert (kept, dict(dropped)) == (4, {"empty_source": 2, "identical": 2})
    rejects = dropped.rejects()
    assert rejects["identical"] == [{"source": "same", "target": "same"}]  # the same pair once
    found = rejects["empty_source"]
    assert isinstance(found, list)
    assert {"source": "", "target": "<b>x</b>"} in found
    assert {"source": "", "target": "C"} in found
    assert len(found) == 2


def test_counts_of_ones_own_need_no_samples() -> None:
    dropped: dict[str, int] = {}
    count_dropped(dropped, "mine", np.array([True, False]), table(PAIRS[:2]))
    assert dropped == {"mine": 1}


def test_only_what_a_rule_found_is_offered() -> None:
    dropped = DropCounts()
    count_dropped(dropped, "mine", np.array([False, True, False, False, True, False, False]), table(PAIRS))
    rows = dropped.rejects()["mine"]
    assert isinstance(rows, list)
    assert sorted(str(row) for row in rows) == [
        "{'source': 'b', 'target': 'B'}",
        "{'source': 'd', 'target': 'D'}",
    ]


def test_long_texts_are_cut_and_say_so() -> None:
    assert sampled(table(PAIRS[-1:])) == [{"source": "e" * 299 + "…", "target": "E" * 299 + "…"}]
    assert (len(excerpt("x" * 300)), excerpt("日" * 301)) == (300, "日" * 299 + "…")


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=20), st.integers(0, 20), st.randoms())
def test_neither_chunks_nor_order_nor_repetitions_decide(pairs: list[tuple[str, str]], at: int, random: Random) -> None:
    whole = table(pairs)
    mixed = list(pairs)
    random.shuffle(mixed)
    expected = sampled(whole)
    assert sampled(whole.slice(0, at), whole.slice(at)) == expected
    assert sampled(table(mixed), whole) == expected
    assert len(expected) == min(MAX_SAMPLES, len(set(pairs)))


def test_rows_are_looked_at_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sampled(table(PAIRS))
    monkeypatch.setattr("mtx.data.filter.rejected_samples.ROWS_PER_BATCH", 2)
    assert sampled(table(PAIRS)) == expected


def test_every_pair_has_about_the_same_chance() -> None:
    counts: Counter[int] = Counter()
    for draw in range(200):  # 5 of 10, so 100 of each are expected; 4 standard deviations are 28
        for found in sampled(table([(f"{draw} {number}", "x") for number in range(10)])):
            assert isinstance(found, dict)
            counts[int(str(found["source"]).split()[1])] += 1
    assert sum(counts.values()) == 1000
    assert max(abs(count - 100) for count in counts.values()) < 28


def test_a_dataset_gets_them_when_the_last_pair_has_come() -> None:
    tally = SourceTally([])
    batches = DefaultFilter().apply(table(PAIRS), tally.dropped)
    assert sum(batch.num_rows for batch in batches) == 4
    assert "rejects" not in tally.metrics
    tally.write_metrics()
    assert tally.metrics["rejects"] == {
        "empty_source": [{"source": "", "target": "C"}],
        "identical": [{"source": "same", "target": "same"}],
    }


def test_columns_that_are_no_large_strings_go_too() -> None:
    odd = pa.table({"src": pa.array(["x", None]), "tgt": ["X", "Y"], "source": pa.array([0, 1], pa.uint16())})
    found = sampled(odd)
    assert {"source": "", "target": "Y"} in found
    assert len(found) == 2


def test_a_table_of_several_chunks_is_looked_at_whole() -> None:
    whole = table([(str(number), "x") for number in range(7)])
    chunks = pa.concat_tables([whole.slice(0, 2), whole.slice(2, 1), whole.slice(3)])
    assert chunks.column("src").num_chunks == 3
    assert sampled(chunks) == sampled(whole)


def test_a_sample_that_is_full_takes_whatever_is_below_its_last() -> None:
    pairs = [(str(number), "x") for number in range(40)]
    expected = sampled(table(pairs))
    assert sampled(*(table([pair]) for pair in pairs)) == expected
    assert sampled(*(table([pair]) for pair in reversed(pairs))) == expected


def test_of_equal_first_halves_the_second_halves_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_number(source: pa.Array, _target: pa.Array) -> np.ndarray:
        return np.array([[7, 100 - int(text)] for text in source.to_pylist()], dtype=np.uint64)

    monkeypatch.setattr("mtx.data.filter.rejected_samples.pair_hashes", by_number)
    numbers = [19, 15, 18, 14, 13, 17, 11, 16, 12, 10]
    parts = [table([(str(number), "x") for number in half]) for half in (numbers[:5], numbers[5:])]
    assert sampled(*parts) == [{"source": str(number), "target": "x"} for number in (19, 18, 17, 16, 15)]
