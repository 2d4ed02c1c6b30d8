"""Threads that compute the items of a stream: the order of the results, how far they read, and errors."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.score import contaminated_pairs as module
from mtx.data.threaded_map import ITEMS_AHEAD, threaded_map


def test_results_are_in_order_and_few_items_are_read_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1, 101):
            read.append(number)
            yield number

    with ThreadPoolExecutor(4) as threads:
        results = threaded_map(threads, lambda item: item * item, items())
        assert next(results) == 1
        assert len(read) == ITEMS_AHEAD + 1
        assert list(results) == [item * item for item in range(2, 101)]
        assert list(threaded_map(threads, abs, [])) == []


def test_an_error_comes_in_place_of_its_result() -> None:
    with ThreadPoolExecutor(2) as threads:
        results = threaded_map(threads, lambda item: 1 // item, [1, 0, 1])
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_the_comparison_with_held_out_text_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LEAST_SHOWN_PAIRS", 4)
    monkeypatch.setattr(module, "ROWS_PER_SLICE", 2)
    batch = pa.record_batch({side: pa.array(["A b!", "c", "a  b", "d", "e"], pa.large_string()) for side in "st"})
    pairs = batch.rename_columns(["src", "tgt"])
    assignment = np.array([1, 0, 0, 0, 0], dtype=np.uint8)
    with caplog.at_level("INFO"):
        found = module.contaminated_pairs(lambda: iter([pairs]), assignment, [])
        module.contaminated_pairs(lambda: iter([pairs.slice(0, 3)]), assignment[:3], [])
    assert found.source.tolist() == found.target.tolist() == found.ngram.tolist() == [False, False, True, False, False]
    lines = [message for message in caplog.messages if "comparing train with held-out text" in message]
    assert [line.split("text ")[1].split(" s=")[0].split(" pairs_per_s")[0] for line in lines] == [
        "begin pairs=5",
        "done pairs=5",
    ]
