"""The check of a scorer of a whole corpus against its contract, as a part of `mtx.testing.check_scorer`."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from mtx.data.score.scorer import CorpusScorer, score_batch

PIECE_ROWS = 7


def checked_corpus_columns(scorer: CorpusScorer, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Return the columns of a corpus.

    Raises AssertionError if they differ with batches of another size.
    """
    found = []
    pieces = [piece for batch in batches for piece in pa.Table.from_batches([batch]).to_batches(PIECE_ROWS)]
    for corpus in (batches, pieces, [batches[0].slice(0, 0)]):
        num_pairs = sum(batch.num_rows for batch in corpus)
        with tempfile.TemporaryDirectory() as folder:
            columns = scorer.corpus_columns(partial(iter, corpus), num_pairs, Path(folder))
        found.append(score_batch(scorer, columns, num_pairs))
    message = f"the values of a pair do not depend on the batches, but differ in batches of {PIECE_ROWS} pairs"
    for name, column in zip(found[0].schema.names, found[0].columns, strict=True):
        assert str(found[1].column(name).to_pylist()) == str(column.to_pylist()), message
    return pa.Table.from_batches(found[:1])
