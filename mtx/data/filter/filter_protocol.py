"""`PairFilter`, the base class of all filters, and the counts of dropped pairs by reason."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.bounded_pair_batches import Pairs
from mtx.data.filter.rejected_samples import RejectSample
from mtx.data.filter.rule_funnel import RuleFunnel
from mtx.infra.dal.row_views import SOURCE_COLUMN


class DropCounts(dict[str, int]):
    """Counts of dropped pairs by reason, with a few of the dropped pairs; for a mixture, also counts by source.

    Attributes:
        by_source: reason → int64 [sources], in the order of the mixture's sources.
        samples: a few dropped pairs by reason.
        funnel: what each rule of a selection drops in order, alone and as the only one; None for other filters.
        is_part: whether the counts are those of a range of pairs, which `add_state` adds to others.
    """

    def __init__(self, num_sources: int = 0, *, is_part: bool = False) -> None:
        super().__init__()
        self.num_sources = num_sources
        self.is_part = is_part
        self.by_source: dict[str, NDArray[np.int64]] = {}
        self.samples: dict[str, RejectSample] = {}
        self.funnel: RuleFunnel | None = None

    def add(self, reason: str, sources: NDArray[Any]) -> None:
        """Add the dropped pairs of a reason to `by_source`, given the source of each dropped pair."""
        self._add_counts(reason, np.bincount(sources, minlength=self.num_sources).astype(np.int64))

    def _add_counts(self, reason: str, counts: NDArray[np.int64]) -> None:
        known = self.by_source.get(reason, counts[:0])
        counts.resize(max(len(counts), len(known)))
        counts[: len(known)] += known
        self.by_source[reason] = counts

    def sample(self, reason: str, pairs: pa.RecordBatch | pa.Table, found: NDArray[np.bool_]) -> None:
        """Offer the pairs that a rule dropped to the sample of its reason; see `RejectSample`."""
        self.samples.setdefault(reason, RejectSample()).offer(pairs, found)

    def state(self) -> dict[str, JSON]:
        """Return all counts and samples, for `add_state`."""
        return {
            "dropped": dict(self),
            "by_source": {reason: counts.tolist() for reason, counts in self.by_source.items()},
            "samples": {reason: sample.state() for reason, sample in self.samples.items()},
            "funnel": None if self.funnel is None else self.funnel.state(),
        }

    def add_state(self, state: Mapping[str, Any]) -> None:
        """Add the counts and samples of later pairs."""
        for reason, count in state["dropped"].items():
            self[reason] = self.get(reason, 0) + count
        for reason, counts in state["by_source"].items():
            self._add_counts(reason, np.array(counts, dtype=np.int64))
        for reason, sample in state["samples"].items():
            self.samples.setdefault(reason, RejectSample()).add_state(sample)
        if state["funnel"] is not None and self.funnel is not None:
            self.funnel.add_state(state["funnel"])
        elif state["funnel"] is not None:
            self.funnel = RuleFunnel.of_state(state["funnel"], is_part=self.is_part)

    def rejects(self) -> dict[str, JSON]:
        """Return the sampled pairs by reason, each a list of objects with `source` and `target`."""
        return {reason: sample.as_json() for reason, sample in self.samples.items()}


@dataclass(frozen=True)
class DividedPairs:
    """All pairs of a split, of which tasks can read ranges.

    Attributes:
        read: streams all pairs.
        num_pairs: number of all pairs.
        folder: a locked folder for files that tasks read, until the filtered dataset is stored.
        in_tasks: yields the outputs of a picklable function for all ranges in order, given a name for its files; the
            function receives the pairs of a range, the number of the first one, and a dict that it leaves empty.
    """

    read: Callable[[], Iterator[pa.RecordBatch]]
    num_pairs: int
    folder: Path
    in_tasks: Callable[[str, "RangeFunction"], Iterator[pa.RecordBatch]]

    def __call__(self) -> Iterator[pa.RecordBatch]:
        """Stream all pairs."""
        return self.read()


RangeFunction: TypeAlias = Callable[[Iterator[pa.RecordBatch], int, dict[str, Any]], Iterator[pa.RecordBatch]]


def count_dropped(
    dropped: dict[str, int], reason: str, found: NDArray[np.bool_], pairs: pa.RecordBatch | pa.Table
) -> None:
    """Count the pairs that a rule drops under its reason, also by source for a mixture, and sample a few of them.

    Args:
        dropped: the counts that `PairFilter.apply` receives.
        reason: name of the rule.
        found: bool [n], True for each pair that the rule drops and that no earlier rule has dropped.
        pairs: the pairs that the rule has checked.
    """
    if num_dropped := int(np.count_nonzero(found)):
        dropped[reason] = dropped.get(reason, 0) + num_dropped
        if isinstance(dropped, DropCounts):
            dropped.sample(reason, pairs, found)
            if SOURCE_COLUMN in pairs.schema.names:
                dropped.add(reason, pairs[SOURCE_COLUMN].to_numpy()[found])


class PairFilter(ABC):
    """Base class of filters, which select pairs to keep: `filter` of training, `held_out_filter` of other splits.

    Subclasses are frozen dataclasses of plain values, picklable and without state. The constructor checks the fields
    and does no I/O. Rules work on Arrow columns, without a Python call per row.
    """

    is_pairwise: ClassVar[bool] = False  # whether the decision about a pair depends on this pair alone

    @property
    def is_divisible(self) -> bool:
        """Whether a filter that `fitted` has returned judges a range of the pairs without the other pairs.

        Tasks then apply it to ranges, in this or in other processes; their outputs are what it keeps of all pairs.
        """
        return self.is_pairwise

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the score columns that the filter reads; None: it may read any that exists.

        Scores that a filter does not read are not part of the id of the filtered dataset.
        """
        return None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons under which the filter may count dropped pairs; empty if they are not known before it is applied.

        A selection after this filter refuses a rule with the name of one of these reasons.
        """
        return ()

    @property
    def settings_over_pairs(self) -> Mapping[str, str]:
        """The settings by which the decision about a pair needs other pairs, each with the override that avoids it.

        A run that streams its source refuses them, because it never has all pairs. The default is the class itself,
        unless the filter is pairwise.
        """
        return {} if self.is_pairwise else {f"filter {type(self).__name__}": "filter=none"}

    def for_mixture(self, source_names: Sequence[str]) -> "PairFilter":
        """Return the filter for a mixture of sources; the default is the filter itself.

        Args:
            source_names: the names of the sources, whose numbers the column `source` has; empty for a single source.
        """
        del source_names
        return self

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise ConfigError if the filter needs a column that is not among `columns`; called before pairs are scored.

        Args:
            columns: the columns of the corpus and of all scorers.
        """
        del columns

    def fitted(self, read: Callable[[], Iterator[pa.RecordBatch]]) -> "PairFilter":
        """Return the filter with all that it derives from the whole split; the default is the filter itself.

        Args:
            read: streams all pairs of the split; can be called several times. If tasks can read ranges of them, it is
                a `DividedPairs`.
        """
        del read
        return self

    def with_scratch(self, folder: Path) -> "PairFilter":
        """Return the filter that may write temporary files, to limit its memory; the default is the filter itself.

        Args:
            folder: an existing folder for the files.
        """
        del folder
        return self

    @abstractmethod
    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that the filter keeps, in order, as record batches; at least one batch, which may be empty.

        The result must not depend on how the pairs are chunked. A filter only selects pairs and changes none: it
        returns all columns unchanged, including the texts and the column `row`, which identifies a pair. To change
        text, use the stage `normalise`.

        Args:
            pairs: columns `src`, `tgt`, and further columns: `row`, `source` in a mixture, columns of the source. They
                are a table or record batches of any size, maybe memory-mapped and larger than memory.
            dropped: receives counts by reason during streaming. Each dropped pair counts once, under the first rule
                that drops it. Reasons without a dropped pair are absent. `count_dropped` implements this.
        """
