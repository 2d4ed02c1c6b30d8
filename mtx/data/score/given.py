"""`GivenScorer`: scores that came with the corpus as columns, or that another tool has written into a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.checked_options import component
from mtx.components.identity import JSON
from mtx.data.score.score_file import KEY, ScoreFile, content_digest, format_suffix, numbers
from mtx.data.score.scorer import MAIN_COLUMN, ScoreColumn, Scorer, Scores
from mtx.errors import ConfigError, DataError, choices
from mtx.infra.dal.row_views import ROW_COLUMN


@component("score.given")
class GivenScorer(Scorer):
    """Takes scores from columns of the corpus, or from a file, instead of computing them.

    Args:
        column: name of the column of the corpus or of the file, or a list of names; None: the only column of the file.
            The scores of a single column have the name of the scorer.
        path: a Parquet, CSV or TSV file, or a file with one number per line, for all raw pairs; None: columns of the
            corpus.
        negate: whether lower is better in the source, so that its numbers change their sign.
        partial: whether a file with the column `row` may leave out pairs, which then have no score.
    """

    kind: ClassVar[str] = "score/given"
    version: ClassVar[int] = 1
    is_of_texts: ClassVar[bool] = False

    column: str | list[str] | None = None
    path: str | None = None
    negate: bool = False
    partial: bool = False

    def __post_init__(self) -> None:
        if self.path is None and not self._names:
            raise ConfigError(
                f"{KEY} needs a column of the corpus or a file, but has neither. Set {KEY}.column=COLUMN, or "
                f"{KEY}.path=FILE"
            )
        if self.path is None and self.partial:
            raise ConfigError(f"{KEY}.partial is for files, but {KEY}.path is null. Set {KEY}.partial=false")
        if len(set(self._names)) < len(self._names):
            raise ConfigError(f"{KEY}.column must name each column once, but is {', '.join(self._names)}")

    @property
    def _names(self) -> Sequence[str]:
        return [self.column] if isinstance(self.column, str) else (self.column or [])

    @property
    def reads_rows(self) -> bool:
        """Whether the scores come from a file, by row number."""
        return self.path is not None

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The given scores."""
        origin = "the corpus" if self.path is None else "the file"
        sign = "minus " if self.negate else ""
        names = list(self._names) if len(self._names) > 1 else [MAIN_COLUMN]
        shown = self._names or ["its only column"]
        return {
            stored: ScoreColumn(f"{sign}the number in {origin}: {name}")
            for stored, name in zip(names, shown, strict=True)
        }

    def identity_fields(self) -> dict[str, JSON]:
        """Return the fields that decide the output. An edited file has another digest; its place does not count."""
        found: dict[str, JSON] = {"column": list(self._names), "negate": self.negate}
        if self.path is not None:
            path = Path(self.path)
            found |= {"content": content_digest(path), "format": format_suffix(path), "partial": self.partial}
        return found

    def check_corpus(self, num_pairs: Sequence[int]) -> None:
        """Raise ConfigError or DataError if the file does not fit sources with these numbers of raw pairs."""
        if self.path is None:
            return
        if len(num_pairs) > 1:
            raise ConfigError(
                f"{KEY}.path gives the scores of one source, but the corpus has {len(num_pairs)}. Add the scores as a "
                f"column to the files of the sources, store it with their option columns, and set {KEY}.path=null and "
                f"{KEY}.column=COLUMN"
            )
        ScoreFile.read(Path(self.path), self._names).check(num_pairs[0], is_partial=self.partial)

    def scores(self, pairs: pa.RecordBatch) -> Scores:
        """Return the scores of the pairs, which the column `row` numbers."""
        if self.path is None:
            found = [_corpus_scores(pairs, name) for name in self._names]
        else:
            rows = pairs.column(ROW_COLUMN).to_numpy(zero_copy_only=False)
            found = ScoreFile.read(Path(self.path), self._names).take(rows)
        sign = -1.0 if self.negate else 1.0
        return {name: pa.array(sign * values + 0.0) for name, values in zip(self.columns, found, strict=True)}


def _corpus_scores(pairs: pa.RecordBatch, name: str) -> NDArray[np.float64]:
    available = [column for column in pairs.schema.names if column not in ("src", "tgt", ROW_COLUMN)]
    if name not in available:
        raise ConfigError(
            f"the corpus has no column {name}. Its columns: {choices(name, available)}. Store the column with "
            f"'downloader.columns=[{name}]', and set {KEY}.column=COLUMN"
        )
    if pa.types.is_string(pairs[name].type) or pa.types.is_large_string(pairs[name].type):
        raise DataError(
            f"a score is a number, but the column {name} of the corpus holds texts. Store it as numbers with "
            f"'downloader.columns={{{name}: float}}'"
        )
    return numbers(pairs[name], f"the column {name} of the corpus")
