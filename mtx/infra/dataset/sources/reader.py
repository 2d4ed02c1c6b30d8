"""What a format of files is to mtx: a module that finds the two texts in a file, and reads it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from mtx.infra.dataset.columns import Columns, Wanted
from mtx.infra.dataset.pairs import Refusals
from mtx.infra.dataset.sources.files import SourceFile


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How files are read, for the formats that it says anything to.

    Attributes:
        header: TSV, CSV: the first line names the columns.
        keep_fuzzy: gettext, XLIFF: take translations that are marked as still to be looked at.
    """

    header: bool = True
    keep_fuzzy: bool = False


class Reader(Protocol):
    """A module for one format, listed in `formats`.

    `NOTHING` says what a file lacks in which `find` finds nothing: `f"{file} has no {NOTHING}"`.
    """

    NOTHING: str

    def find(self, file: SourceFile, wanted: Wanted, options: ReadOptions, refusals: Refusals) -> Columns | None:
        """Find the two texts and their languages by the start of the file; None: there is nothing in it.

        Raises SourceError where the texts that are wanted are not there, MalformedPairError as `refusals` say.
        """

    def read(
        self, file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
    ) -> Iterator[pa.RecordBatch]:
        """Stream the pairs in the file's order, in bounded memory, `limit` at most. Raises SourceError."""
