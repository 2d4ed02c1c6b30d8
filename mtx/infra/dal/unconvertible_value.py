"""Find the value of a column that Arrow cannot convert to the column's type, for an error message."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

LONGEST_VALUE = 60  # characters of the value in a message
ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def unconvertible_value(values: Any, kind: pa.DataType | None) -> str:
    """Return the first value that pyarrow cannot convert to a type, as `such as 'abc' (str)`.

    Args:
        values: Python values or an array; anything else gives its class.
        kind: the type of Arrow; None: the type of the first value that is not None.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        return f"{_shown(values)} ({type(values).__name__})"
    for value in values:
        try:
            if isinstance(value, pa.Scalar):
                value.as_py()  # a UnicodeDecodeError, unless its bytes are UTF-8
                value.cast(kind)
            else:
                found = (pa.scalar(value) if kind is None else pa.scalar(value, kind)).type
                kind = kind if found == pa.null() else found
        except UnicodeDecodeError:
            return "such as bytes that are not UTF-8"
        except ERRORS:
            plain = value.as_py() if isinstance(value, pa.Scalar) else value
            return f"such as {_shown(plain)} ({type(plain).__name__})"
    return f"a {type(values).__name__}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
