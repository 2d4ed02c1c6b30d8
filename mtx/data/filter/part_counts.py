"""`PartCounts`: the pairs that each rule drops, by source of a mixture and by language."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.filter.rule_bounds import Parts
from mtx.infra.dal.row_views import SOURCE_COLUMN

MAX_KNOWN = 1000  # values of a column that are told apart; a column of more is probably no language
MAX_PARTS = 20  # values of a column that a report lists; all others count together
OTHERS = "(others)"

# Columns of texts that name a language, such as `lang` of a corpus or `language.source` of a scorer.
LANGUAGE_NAME = re.compile(r"(?:^|[._])(?:lang|language|languages)(?:$|[._])", re.IGNORECASE)


class PartCounts:
    """Counts of pairs and of dropped pairs by the values of the columns that have parts.

    Args:
        num_rules: number of rules.
        source_names: the names of the sources of a mixture, whose numbers the column `source` has.
        max_known: values of a column that are told apart, the first ones; None: all, for counts that are added up.
    """

    def __init__(self, num_rules: int, source_names: Sequence[str] = (), *, max_known: int | None = MAX_KNOWN) -> None:
        self._num_rules = num_rules
        self._max_known = max_known
        self._source_names = list(source_names)
        self._counts: dict[str, dict[str, NDArray[np.int64]]] = {}  # pairs, and dropped pairs of each rule

    def add(self, pairs: pa.RecordBatch, in_order: NDArray[np.bool_]) -> None:
        """Count a batch of n pairs, given which pairs each rule drops and no rule before it, bool [rules, n]."""
        for column in pairs.schema.names:
            if column == SOURCE_COLUMN and self._source_names:
                parts = Parts.of_column(pairs.column(column), self._source_names)
            elif is_language_column(pairs.schema.field(column)):
                parts = Parts.of_column(pairs.column(column))
            else:
                continue
            masks = (slice(None), *in_order)
            counts = np.stack([np.bincount(parts.codes[mask], minlength=len(parts.names)) for mask in masks])
            known = self._counts.setdefault(column, {})
            for place, name in enumerate(parts.names):
                self._add(known, name, counts[:, place])

    def _add(self, known: dict[str, NDArray[np.int64]], name: str, counts: NDArray[np.int64]) -> None:
        if name not in known and self._max_known is not None and len(known) >= self._max_known:
            name = OTHERS
        known[name] = known.get(name, np.zeros(self._num_rules + 1, dtype=np.int64)) + counts

    def state(self) -> dict[str, JSON]:
        """Return the counts by column and value, for `add_state`."""
        return {
            column: [[name, counts.tolist()] for name, counts in known.items()]
            for column, known in self._counts.items()
        }

    def add_state(self, state: Mapping[str, Any]) -> None:
        """Add the counts of later pairs."""
        for column, values in state.items():
            known = self._counts.setdefault(column, {})
            for name, counts in values:
                self._add(known, name, np.array(counts, dtype=np.int64))

    def heavily_cut(self, share: float) -> Iterator[tuple[str, str, float, int]]:
        """Yield the sources that lose more than a share of their pairs: column, name, lost share, the heaviest rule."""
        for name, counts in self._counts.get(SOURCE_COLUMN, {}).items():
            dropped = counts[1:]
            if counts[0] and dropped.sum() > share * counts[0]:
                yield SOURCE_COLUMN, name, float(dropped.sum() / counts[0]), int(np.argmax(dropped))

    def as_json(self, rules: Sequence[str]) -> dict[str, JSON]:
        """Return for each column and value `num_pairs`, `num_kept` and `dropped` by rule, the largest parts first."""
        return {column: self._column(counts, rules) for column, counts in self._counts.items()}

    def _column(self, counts: dict[str, NDArray[np.int64]], rules: Sequence[str]) -> dict[str, JSON]:
        ordered = sorted(counts.items(), key=lambda each: (each[0] == OTHERS, -int(each[1][0]), each[0]))
        if len(ordered) > MAX_PARTS:
            rest = np.sum([of for _, of in ordered[MAX_PARTS - 1 :]], axis=0)
            ordered = [*ordered[: MAX_PARTS - 1], (OTHERS, rest)]
        return {
            name: {
                "num_pairs": int(of[0]),
                "num_kept": int(of[0] - of[1:].sum()),
                "dropped": {rule: int(count) for rule, count in zip(rules, of[1:], strict=True) if count},
            }
            for name, of in ordered
        }


def is_language_column(column: pa.Field) -> bool:
    """Return whether a column of texts names a language, by its name."""
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return bool(is_text and LANGUAGE_NAME.search(column.name) and not column.name.endswith("reason"))
