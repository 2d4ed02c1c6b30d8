"""Documents with the same pairs as an earlier document, counted by hand."""

from pathlib import Path

import pyarrow as pa
import pytest

from mtx.data.score.duplicate_documents import DuplicateDocumentsScorer
from mtx.data.score.scorer import MAIN_COLUMN
from mtx.errors import ConfigError
from mtx.testing import check_scorer

# Document b repeats a; c has the pairs of a in another order; d has one of them; e repeats a again; the last have none.
PAIRS = [
    *(("One", "eins", "a"), ("two", "zwei", "a"), ("one", "EINS", "b"), ("two ", "zwei", "b")),
    *(("two", "zwei", "c"), ("one", "eins", "c"), ("one", "eins", "d")),
    *(("one", "eins", "e"), ("two", "zwei", "e"), ("one", "eins", None), ("one", "eins", None)),
]


def table(pairs: list[tuple[str, str, str | None]]) -> pa.Table:
    columns = zip(*pairs, strict=True)
    return pa.table(
        {name: pa.array(of, pa.large_string()) for name, of in zip(("src", "tgt", "talk"), columns, strict=True)}
    )


def test_a_document_repeats_an_earlier_one_with_the_same_pairs_in_the_same_order() -> None:
    scorer = DuplicateDocumentsScorer(column="talk")
    found = check_scorer(scorer, table(PAIRS)).to_pydict()
    assert found[MAIN_COLUMN] == [0, 0, -1, -1, 0, 0, 0, -2, -2, 0, 0]
    assert found["first_pair"] == [0, 0, 0, 0, 4, 4, 6, 0, 0, 9, 10]


def test_a_document_whose_pairs_stand_apart_is_one_document() -> None:
    apart = [PAIRS[place] for place in (0, 2, 1, 3)]
    found = check_scorer(DuplicateDocumentsScorer(column="talk"), table(apart)).to_pydict()
    assert found[MAIN_COLUMN] == [0, -1, 0, -1]


@pytest.mark.parametrize(("column", "told"), [("tlak", "Its columns: talk"), ("number", "holds double")])
def test_a_column_that_names_no_documents_is_refused(column: str, told: str, tmp_path: Path) -> None:
    pairs = table(PAIRS).append_column("number", pa.array([0.5] * len(PAIRS)))
    with pytest.raises(ConfigError, match=told):
        DuplicateDocumentsScorer(column=column).corpus_columns(lambda: iter(pairs.to_batches()), len(PAIRS), tmp_path)
