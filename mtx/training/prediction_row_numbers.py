"""Row numbers of predictions: in each batch as `row_ids`, and as `batch_indices` for Lightning's prediction writers.

Lightning passes `batch_indices` to a `BasePredictionWriter` only if the batch sampler is of a Lightning class.
`PredictionBatches` derives from that class, so a `BasePredictionWriter` works as with a DataLoader, on any number of
ranks.
`mtx.training.callbacks.TranslationWriter` writes the translations of a whole prediction in the order of the lines.
"""

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mtx.batches.plan.planner import Int
from mtx.training.lightning_compat import LightningCompat, pl
from mtx.training.loader import EpochBatches

if TYPE_CHECKING:
    from pytorch_lightning.overrides.distributed import _IndexBatchSamplerWrapper as Indexed
else:  # a Lightning version without this class passes no indices to prediction writers, and warns
    Indexed = getattr(
        importlib.import_module(f"{pl.__name__}.overrides.distributed"), "_IndexBatchSamplerWrapper", object
    )


# `seen_batch_indices` is a property here and an attribute in Lightning's class
class PredictionBatches(LightningCompat, EpochBatches, Indexed):  # type: ignore[misc]
    """Sampler for prediction that also gives Lightning's prediction writers the row numbers of each batch."""

    @property
    def seen_batch_indices(self) -> "_RowLists":  # type: ignore[override]  # Lightning only indexes it by batch number
        """The row numbers of each batch of this rank, indexed by the batch's number from 0."""
        rows: _RowLists | None = self.__dict__.get("_rows")
        if rows is None:
            rows = self.__dict__["_rows"] = _RowLists(self.epoch_items()[0])
        return rows


class _RowLists:
    """Row numbers of batches as lists, each created only when it is indexed, since lists take five times the memory."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._rows: list[Int] = [item[0] if isinstance(item, tuple) else item for item in items]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, batch: int) -> list[int]:
        rows: list[int] = self._rows[batch].tolist()
        return rows
