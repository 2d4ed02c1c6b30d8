"""Read pairs from Parquet files. The texts are two columns, or two fields of a column of objects."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import Columns, RequestedColumns, check_unique, find_columns, schema_keys
from mtx.infra.dataset.pair_stream import ROWS_PER_BATCH, Refusals, pairs_of_batch
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.local_files import FilePart, SourceFile, arrow_file, plain_path
from mtx.library_errors import library_reason

UNIT_NAME = "column"


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns:
    """Find the text columns in the file's schema. Raises SourceError if the columns are missing."""
    with _open_parquet(file) as parquet:
        schema = parquet.schema_arrow
        where = file.name
        columns = find_columns(schema_keys(schema), wanted, where)
        check_unique(schema.names, columns, wanted, where)
        return columns.with_extra(schema, wanted, where)


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file, at most `limit` pairs. Checks the checksums of pages if the file has them."""
    prefix = "" if columns.parent is None else f"{columns.parent}."
    texts = [f"{prefix}{name}" for name in (columns.source, columns.target)]
    with _open_parquet(file) as parquet:
        part = file.part or FilePart(0, parquet.num_row_groups)
        row = 1 + sum(parquet.metadata.row_group(number).num_rows for number in range(part.first))
        groups = list(range(part.first, part.end))
        extra = [name for name in columns.extra.names if name in parquet.schema_arrow.names]
        wanted = [*texts, *extra]
        for batch in parquet.iter_batches(batch_size=ROWS_PER_BATCH, row_groups=groups, columns=wanted):
            where = file.name
            pairs = pairs_of_batch(batch, columns, where=where, first_row=row, refusals=refusals, limit=limit)
            yield pairs
            row += batch.num_rows
            if limit is not None:
                limit -= pairs.num_rows
                if limit == 0:
                    return


@contextmanager
def _open_parquet(file: SourceFile) -> Iterator[pq.ParquetFile]:
    with plain_path(file) as path:
        try:
            with (
                arrow_file(path) as opened,
                # `pre_buffer` would keep the bytes of all row groups until the end.
                pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as parquet,
            ):
                yield parquet
        except (pa.ArrowException, OSError) as error:
            raise SourceError(
                f"{file.name} is not a valid Parquet file: {library_reason(error)}. The file is truncated, damaged, "
                "or of another format: copy or download the file again"
            ) from error
