r"""Which row a prediction is for: in the batch, as `row_ids`, and in what Lightning tells its prediction writers.

A writer gets `batch_indices`, which Lightning takes from batch samplers of its own. `RowsForWriters` passes for one,
so a `BasePredictionWriter` works as with a DataLoader, on any number of ranks. This one writes predictions in the
source's order, for a `predict_step` that returns the texts of its batch:

    class InOrder(BasePredictionWriter):
        def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
            mine = {row: text for some in zip(batch_indices[0], predictions) for row, text in zip(*some)}
            parts = [mine]
            if trainer.world_size > 1:
                parts = [{}] * trainer.world_size
                torch.distributed.all_gather_object(parts, mine)
            if trainer.is_global_zero:
                found = {row: text for part in parts for row, text in part.items()}
                Path("translated.txt").write_text("".join(found[row] + "\n" for row in sorted(found)))

    Trainer(callbacks=[InOrder("epoch")]).predict(model, dm, return_predictions=False)
"""

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mtx.infra.dataset.plan.base import Int
from mtx.lightning import OfBothPackages, pl
from mtx.training.loader import EpochBatches

if TYPE_CHECKING:
    from pytorch_lightning.overrides.distributed import _IndexBatchSamplerWrapper as Indexed
else:  # a Lightning without it tells writers no indices, and says so
    Indexed = getattr(
        importlib.import_module(f"{pl.__name__}.overrides.distributed"), "_IndexBatchSamplerWrapper", object
    )


class RowsForWriters(OfBothPackages, EpochBatches, Indexed):  # type: ignore[misc]  # its attribute is a property here
    """Batches to predict, which Lightning's prediction writers are told the rows of."""

    @property
    def seen_batch_indices(self) -> "_Rows":  # type: ignore[override]  # it is only looked up by the batch's number
        """The rows of each batch of this rank, by its number from 0."""
        rows: _Rows | None = self.__dict__.get("_rows")
        if rows is None:
            rows = self.__dict__["_rows"] = _Rows(iter(self))
        return rows


class _Rows:
    """Lists of rows, made when they are looked up, since lists take five times the memory."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._rows: list[Int] = [item[0] if isinstance(item, tuple) else item for item in items]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, batch: int) -> list[int]:
        rows: list[int] = self._rows[batch].tolist()
        return rows
