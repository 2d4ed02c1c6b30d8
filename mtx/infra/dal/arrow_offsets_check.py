"""Checks the offsets of an Arrow table before anything follows them.

A changed offset in a memory-mapped file leads a reader beyond the file, where the process ends by a signal. When Arrow
opens a file, it checks only the first and the last offset. The check reads 4 or 8 bytes for each value, but no value.
"""

import pyarrow as pa

from mtx.errors import DamagedError
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.library_errors import library_reason

BINARY_OF = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
}  # without a check of UTF-8, which reads all


def check_offsets(table: pa.Table, where: str) -> None:
    """Check that all offsets of a table ascend and end within their values.

    Args:
        table: the table, which may be memory-mapped.
        where: name of the table in the error message.

    Raises DamagedError if an offset does not.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_primitive(column.type):
            continue
        for chunk in column.chunks:
            try:
                kind = BINARY_OF.get(chunk.type)
                (chunk if kind is None else chunk.view(kind)).validate(full=True)
            except pa.ArrowException as error:
                raise DamagedError(
                    f"{where} has changed on disk: the column {name!r} has wrong offsets ({library_reason(error)}). "
                    f"{VERIFY_HINT}"
                ) from error
