"""`DuplicateDocumentsScorer`: whether the document of a pair has the same pairs as an earlier document."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.components.checked_options import component
from mtx.data.score.normal_form import normal_texts
from mtx.data.score.scorer import MAIN_COLUMN, CorpusScorer, Sample, ScoreColumn
from mtx.data.score.text_features import mixed
from mtx.errors import ConfigError, choices
from mtx.infra.dataset.extra_columns import check_category

KEY = "score.duplicate_documents"
FIRST_PAIR = "first_pair"

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@component("score.duplicate_documents")
class DuplicateDocumentsScorer(CorpusScorer):
    """Scores the pairs of a document that repeats an earlier document.

    A document is all pairs with one value in a column of the corpus. Two documents are the same if they have the same
    pairs in the same order. Texts are compared in their normal forms: NFKC, lower case, and one space between words. A
    pair without a document repeats nothing.

    Args:
        column: name of the column of the corpus that names the document of each pair.
    """

    kind: ClassVar[str] = "score/duplicate_documents"
    version: ClassVar[int] = 1
    is_of_texts: ClassVar[bool] = False

    column: str = "document"

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The score, and the first pair of the first document with the same pairs."""
        return {
            MAIN_COLUMN: ScoreColumn("minus the number of earlier documents with the same pairs; 0 or less"),
            FIRST_PAIR: ScoreColumn(
                "the row number of the first pair of the first document with the same pairs", pa.int64()
            ),
        }

    def corpus_columns(self, corpus: Sample, num_pairs: int, scratch: Path) -> Mapping[str, pa.Array]:
        """Return the columns of all pairs. Raises ConfigError if the corpus has no such column."""
        del scratch
        documents, hashes = _documents_and_hashes(corpus, self.column, num_pairs)
        order = np.argsort(documents, kind="stable")
        starts = np.flatnonzero(np.diff(documents[order], prepend=-1))
        lengths = np.diff(np.append(starts, num_pairs))
        places = (np.arange(num_pairs) - np.repeat(starts, lengths)).astype(np.uint64)
        found = np.zeros(num_pairs), np.arange(num_pairs)
        if num_pairs:
            content = np.add.reduceat(mixed(mixed(places) + hashes[order]), starts)
            earlier, first = _earlier_documents(content, first_pairs := order[starts])
            for column, of_document in zip(found, (-earlier, first_pairs[first]), strict=True):
                column[order] = np.repeat(of_document, lengths)
        return {MAIN_COLUMN: pa.array(found[0] + 0.0), FIRST_PAIR: pa.array(found[1])}


def _earlier_documents(content: Hashes, first_pairs: Ints) -> tuple[Ints, Ints]:
    """Return for each of n documents how many earlier ones have its content, and the first of them: int64 [n] each."""
    by_content = np.lexsort((first_pairs, content))
    is_first = np.diff(content[by_content], prepend=content[by_content[:1]] + np.uint64(1)) != 0
    group_starts = np.flatnonzero(is_first)
    start_of = group_starts[np.cumsum(is_first) - 1]
    earlier, first = np.empty((2, len(content)), dtype=np.int64)
    earlier[by_content] = np.arange(len(content)) - start_of
    first[by_content] = by_content[start_of]
    return earlier, first


def _documents_and_hashes(corpus: Sample, column: str, num_pairs: int) -> tuple[Ints, Hashes]:
    """Return the number of the document of each pair, and the hash of the pair; without a document, a new number."""
    documents, hashes = np.arange(num_pairs), np.zeros(num_pairs, dtype=np.uint64)
    numbers: dict[str, int] = {}
    first = 0
    for batch in corpus():
        end = first + batch.num_rows
        values = _column(batch, column).cast(pa.large_string()).dictionary_encode()
        # The number of a document is that of its first pair, which no other document and no other pair has.
        known = values.indices.is_valid().to_numpy(zero_copy_only=False)
        indices = pc.fill_null(values.indices, 0).to_numpy()
        firsts = np.full(len(values.dictionary), -1)
        firsts[indices[known][::-1]] = np.flatnonzero(known)[::-1] + first
        named = zip(values.dictionary.to_pylist(), firsts.tolist(), strict=True)
        of_value = [numbers.setdefault(name, row) for name, row in named]
        documents[first:end][known] = np.array(of_value, dtype=np.int64)[indices[known]]
        source, target = (normal_texts(batch.column(side)).hashes() for side in ("src", "tgt"))
        # A pair without a document has a hash of its own, so that its content is that of no document.
        hashes[first:end] = np.where(known, mixed(source) + target, mixed(np.arange(first, end).astype(np.uint64)))
        first = end
    return documents, hashes


def _column(pairs: pa.RecordBatch, column: str) -> pa.Array:
    known = [name for name in pairs.schema.names if name not in ("src", "tgt")]
    if column not in known:
        raise ConfigError(
            f"the corpus has no column {column!r}, which {KEY}.column names. Its columns: {choices(column, known)}. "
            f"Store the column with 'downloader.columns=[{column}]', and set {KEY}.column=COLUMN"
        )
    check_category(f"{KEY}.column", column, pairs.schema.field(column).type)
    return pairs.column(column)
