"""Types of numbers with bounds, for options of components. Not pydantic's own fields, whose import takes a while."""

from typing import Annotated

from annotated_types import Ge, Le

__all__ = ["MAX_AMOUNT", "MAX_INTEGER", "Amount", "Count", "Multiple", "Natural", "Probability", "Seconds"]

MAX_INTEGER = 2**31 - 1  # the largest number of rows, and of most else; messages name this bound only if it is exceeded
MAX_AMOUNT = 2**63 - 1  # the largest integer of numpy and Arrow

Count = Annotated[int, Ge(1), Le(MAX_INTEGER)]
Natural = Annotated[int, Ge(0), Le(MAX_INTEGER)]
Amount = Annotated[int, Ge(1), Le(MAX_AMOUNT)]
Multiple = Annotated[int, Ge(1), Le(1 << 16)]
Probability = Annotated[float, Ge(0), Le(1)]
Seconds = Annotated[float, Ge(0)]
