"""Pairs above a maximum, counted by side; all numbers worked out by hand."""

from typing import Any

import numpy as np
import pytest

from mtx.batches.batch_format import BatchFormat
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.training.split_data import SplitData, TooLong

# ids of source and target; a batch has one position more on each side
SIZES = [(2, 2), (6, 2), (2, 7), (6, 7), (3, 3), (3, 4), (4, 3)]


def opened(too_long: TooLong, **options: Any) -> SplitData:
    pairs = EncodedPairs(*(TokenRows.of([[9] * size for size in side]) for side in zip(*SIZES, strict=True)))
    return SplitData(pairs, np.full(len(SIZES), 60), BatchFormat(**options), too_long)


def counts(**own: int) -> dict[str, int]:
    names = [
        f"{done}{side}" for done in ("dropped_length", "truncated") for side in ("", "_source", "_target", "_both")
    ]
    return {**dict.fromkeys(names, 0), **own}


def test_pairs_are_dropped_by_either_side() -> None:
    # at most 4 positions are 3 ids: sources of 6, 6 and 4, targets of 7, 7 and 4; the pair (6, 7) is in both
    split = opened("drop", max_source_tokens=4, max_target_tokens=4)
    assert split.num_too_long() == counts(
        dropped_length=5, dropped_length_source=3, dropped_length_target=3, dropped_length_both=1
    )
    assert split.excluded is not None
    assert split.excluded.tolist() == [False, True, True, True, False, True, True]


def test_pairs_are_truncated_on_either_side() -> None:
    split = opened("truncate", max_source_tokens=4, max_target_tokens=5)
    assert split.num_too_long() == counts(truncated=4, truncated_source=3, truncated_target=2, truncated_both=1)
    assert split.excluded is None
    assert split.lengths.source.tolist() == [3, 4, 3, 4, 4, 4, 4]
    assert split.lengths.target.tolist() == [3, 3, 5, 5, 4, 5, 4]
    # a target of 8 positions of which 5 are served stands for 5 / 8 of its bytes
    assert split.num_target_bytes(np.arange(7)).tolist() == [60, 60, 37, 37, 60, 60, 60]


def test_a_target_whose_language_token_replaces_bos_has_all_its_bytes() -> None:
    split = opened("truncate", max_target_tokens=5, language_token_position="suffix")
    # a target of 7 positions of which 5 are served stands for 5 / 7 of its bytes
    assert split.num_target_bytes(np.arange(7)).tolist() == [60, 60, 42, 42, 60, 60, 60]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_source_tokens": 4}, counts(dropped_length=3, dropped_length_source=3)),
        ({"max_target_tokens": 4}, counts(dropped_length=3, dropped_length_target=3)),
        ({"max_source_tokens": 4, "source_eos": False}, counts(dropped_length=2, dropped_length_source=2)),
        ({"max_source_tokens": 7, "max_target_tokens": 8}, counts()),
        ({}, counts()),
    ],
)
def test_a_side_without_maximum_or_within_it_counts_nothing(options: dict[str, Any], expected: dict[str, int]) -> None:
    assert opened("drop", **options).num_too_long() == expected


@pytest.mark.parametrize("too_long", ["drop", "truncate"])
def test_the_sides_add_up(too_long: TooLong) -> None:
    for most_source in range(2, 9):
        for most_target in range(2, 9):
            split = opened(too_long, max_source_tokens=most_source, max_target_tokens=most_target)
            found = split.num_too_long()
            expected = sum(source + 1 > most_source or target + 1 > most_target for source, target in SIZES)
            assert found["dropped_length"] + found["truncated"] == expected
            for done in ("dropped_length", "truncated"):
                assert found[done] == found[f"{done}_source"] + found[f"{done}_target"] - found[f"{done}_both"]
