"""The protocol of file formats: a module that finds the two texts in a file, and reads the file's pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.pair_stream import Refusals
from mtx.infra.dataset.sources.local_files import SourceFile


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading files. Each option applies to the listed formats only.

    Attributes:
        header: TSV and CSV: the first line contains the names of the columns.
        keep_fuzzy: gettext and XLIFF: also read translations that are marked as needing review.
    """

    header: bool = True
    keep_fuzzy: bool = False


class FormatReader(Protocol):
    """A module that reads one file format. `formats.READERS` lists all these modules.

    `UNIT_NAME` names what a file has to contain. If `find` finds nothing, the error message is `f"{file} has no
    {UNIT_NAME}"`.
    """

    UNIT_NAME: str

    def find(
        self, file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals
    ) -> Columns | None:
        """Find the two texts and their languages from the start of the file; return None if the file is empty.

        Raises SourceError if the requested texts are missing. Invalid rows go to `refusals`, which may raise
        MalformedPairError.
        """

    def read(
        self, file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the pairs in the file's order, in bounded memory, at most `limit` pairs. Raises SourceError."""
