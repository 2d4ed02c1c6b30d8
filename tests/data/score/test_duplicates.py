"""Numbers of pairs with one source or one target, counted by hand."""

import pyarrow as pa

from mtx.data.score.duplicates import DuplicatesScorer
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
