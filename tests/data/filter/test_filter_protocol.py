"""Counts of what filters drop, by reason and by source."""

import numpy as np
import pyarrow as pa

from mtx.data.filter.filter_protocol import DropCounts, count_dropped
from mtx.infra.dal.row_views import SOURCE_COLUMN


def mixed(*sources: int) -> pa.Table:
    texts = [str(number) for number in range(len(sources))]
    return pa.table({"src": texts, "tgt": texts, SOURCE_COLUMN: pa.array(sources, pa.uint16())})


def test_pairs_of_a_mixture_are_counted_by_the_source_that_they_come_from() -> None:
    dropped = DropCounts(3)
    count_dropped(dropped, "mine", np.array([True, False, True, True]), mixed(2, 1, 2, 0))
    count_dropped(dropped, "mine", np.array([False, True]), mixed(1, 0))
    count_dropped(dropped, "other", np.array([False, False]), mixed(1, 1))
    assert dict(dropped) == {"mine": 4}
    assert {reason: counts.tolist() for reason, counts in dropped.by_source.items()} == {"mine": [2, 0, 2]}


def test_pairs_of_one_source_are_counted_together() -> None:
    dropped = DropCounts()
    count_dropped(dropped, "mine", np.array([True, True]), mixed(0, 0).drop_columns(SOURCE_COLUMN))
    assert (dict(dropped), dropped.by_source) == ({"mine": 2}, {})
