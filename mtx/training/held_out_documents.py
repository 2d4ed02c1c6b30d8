"""The documents of held-out pairs: intervals over held-out sentences resample whole documents where they are known."""

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.errors import ConfigError, choices
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dataset.extra_columns import check_category, is_category

USUAL_NAME = "document"  # of the column, if datamodule.document_column names none


def document_numbers(rows: Rows, column: str | None) -> NDArray[np.int64] | None:
    """Return the number of the document of each pair, by first occurrence, -1 for a pair without a value: int64 [n].

    Args:
        rows: the held-out pairs.
        column: the column with the name of the document. None: `document`, if the pairs have such a column.

    Returns:
        None if `column` is None and there is no column `document` of text, integers or Booleans.

    Raises:
        ConfigError: the named column does not exist, or is neither text, integers nor Booleans.
    """
    name = column or USUAL_NAME
    if name not in rows.schema.names:
        if column is None:
            return None
        raise ConfigError(
            f"datamodule.document_column names a column of the held-out pairs, but {name!r} is none. Choose one of "
            f"{choices(name, rows.schema.names)}; downloader.columns says which columns are stored beside the texts"
        )
    values = rows.column(name)
    if column is None and not is_category(values.type):
        return None
    check_category("datamodule.document_column", name, values.type)
    numbers = pc.fill_null(values.dictionary_encode().combine_chunks().indices, -1)
    found: NDArray[np.int64] = numbers.to_numpy().astype(np.int64)
    return found
