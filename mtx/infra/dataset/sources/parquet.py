"""Parquet files, with the texts as columns or as fields of a column of objects."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from mtx.errors import SourceError
from mtx.infra.dataset.columns import Columns, Wanted, find_columns, pair_columns, schema_keys
from mtx.infra.dataset.pairs import ROWS_PER_BATCH, Refusals, pairs_of_arrays
from mtx.infra.dataset.sources.files import SourceFile, plain_path
from mtx.infra.dataset.sources.reader import ReadOptions

NOTHING = "column"


def find(file: SourceFile, wanted: Wanted, options: ReadOptions, refusals: Refusals) -> Columns:
    """Find the columns by the schema. Raises SourceError."""
    with _opened(file) as parquet:
        return find_columns(schema_keys(parquet.schema_arrow), wanted, str(file.path))


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs of a file, `limit` at most. Checksums of pages are checked where the file has them."""
    prefix = "" if columns.parent is None else f"{columns.parent}."
    names = [f"{prefix}{name}" for name in (columns.source, columns.target)]
    row = 1
    with _opened(file) as parquet:
        for batch in parquet.iter_batches(batch_size=ROWS_PER_BATCH, columns=names):
            source, target = pair_columns(batch, columns)
            pairs = pairs_of_arrays(source, target, where=str(file.path), first_row=row, refusals=refusals, limit=limit)
            yield pairs
            row += batch.num_rows
            if limit is not None:
                limit -= pairs.num_rows
                if limit == 0:
                    return


@contextmanager
def _opened(file: SourceFile) -> Iterator[pq.ParquetFile]:
    with plain_path(file) as path:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
                yield parquet
        except (pa.ArrowException, OSError) as error:
            what = str(error).rstrip(".")
            raise SourceError(
                f"{file.path} is no whole Parquet file: {what}. It was cut short or damaged, or is of another format"
            ) from error
