"""`PairwiseRule`, a filter that judges each pair by itself, and may give each dropped pair a reason."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.filter_protocol import PairFilter, count_dropped
from mtx.errors import DataError
from mtx.infra.dal.unconvertible_value import unconvertible_value

MAX_REASONS = 100  # of a batch; a rule with more has probably put numbers or texts into its reasons


@dataclass(frozen=True)
class Reasons:
    """Why a rule drops pairs.

    Attributes:
        names: the distinct reasons.
        codes: the reason of each pair, as an index into `names`, -1 for none, int64 [n].
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]


class PairwiseRule(PairFilter):
    """Base class of filters that judge each pair by itself; each can be a rule of a selection."""

    is_pairwise: ClassVar[bool] = True

    @property
    @abstractmethod
    def rule_name(self) -> str:
        """The name under which dropped pairs are counted."""

    @abstractmethod
    def judge(self, pairs: pa.RecordBatch) -> tuple[NDArray[np.bool_], Reasons | None]:
        """Return which of n pairs to keep, bool [n], and why others are dropped; None: the rule gives no reasons.

        Raises DataError if the rule does not judge each pair.
        """

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs to keep; count the others under the name of the rule, or `NAME.REASON`."""
        for batch in pair_batches(pairs):
            keep, reasons = self.judge(batch)
            count_reasons(dropped, self.rule_name, ~keep, reasons, batch)
            yield batch.filter(pa.array(keep))


def judgement_of(name: str, result: object, num_pairs: int) -> tuple[NDArray[np.bool_], Reasons | None]:
    """Return the checked result of a user's function: which pairs to keep, or that and a reason for each pair.

    Raises DataError if there is not one value for each pair.
    """
    is_mask = not isinstance(result, tuple) or len(result) != 2 or _is_scalar(result[0])  # (True, False): two pairs
    mask, reasons = (result, None) if is_mask else cast(tuple[Any, Any], result)
    try:
        keep = pa.array(mask, type=pa.bool_())
    except (pa.ArrowException, TypeError, ValueError):
        raise DataError(
            f"the rule {name} returns true or false for each pair, or a pair of that and of the reasons, but returned "
            f"{type(result).__name__}, {unconvertible_value(mask, pa.bool_())}"
        ) from None
    if len(keep) != num_pairs or keep.null_count:
        raise DataError(
            f"the rule {name} returns true or false for each pair, but returned {len(keep)} "
            f"values, {keep.null_count} of them null, for {num_pairs} pairs"
        )
    kept = keep.to_numpy(zero_copy_only=False)
    return kept, None if reasons is None else _reasons_of(name, reasons, kept)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, pa.Scalar) or np.isscalar(value)


def count_reasons(
    dropped: dict[str, int], name: str, found: NDArray[np.bool_], reasons: Reasons | None, pairs: pa.RecordBatch
) -> None:
    """Count the pairs that a rule drops, bool [n]: under its name, or under `NAME.REASON` if a pair has a reason."""
    if reasons is None:
        count_dropped(dropped, name, found, pairs)
        return
    count_dropped(dropped, name, found & (reasons.codes < 0), pairs)
    for code, reason in enumerate(reasons.names):
        count_dropped(dropped, f"{name}.{reason}", found & (reasons.codes == code), pairs)


def _reasons_of(name: str, reasons: object, keep: NDArray[np.bool_]) -> Reasons:
    try:
        texts = pa.array(reasons, type=pa.large_string())
    except (pa.ArrowException, TypeError, ValueError):
        texts = None
    if texts is None or len(texts) != len(keep):
        raise DataError(
            f"the rule {name} returned reasons that are not one text or null for each of {len(keep)} pairs, but "
            f"{type(reasons).__name__}{'' if texts is None else f' of {len(texts)}'}. Return (keep, reasons)"
        )
    encoded = pc.if_else(pa.array(keep), pa.scalar(None, pa.large_string()), texts).dictionary_encode()
    if len(encoded.dictionary) > MAX_REASONS:
        raise DataError(
            f"the rule {name} gave {len(encoded.dictionary)} different reasons, but a report has room for "
            f"{MAX_REASONS}. Leave numbers and texts of the pair out of the reasons"
        )
    codes = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return Reasons(tuple(encoded.dictionary.to_pylist()), codes)
