"""Callback that ends training at a budget of optimizer steps, seconds, real tokens, or bytes of source text."""

import math
import time
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import torch
from pydantic import Field
from typing_extensions import override

from mtx.batches.schema import batch_masks, batch_tensor, flat_token_counts, is_causal, is_flat
from mtx.components.checked_options import Amount, Count, checked
from mtx.errors import ConfigError, DataError
from mtx.training.lightning_compat import LightningCompat, pl


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """Amounts of training, over all ranks.

    Attributes:
        steps: optimizer steps.
        seconds: seconds in training batches and waiting for data; validations and checkpoints do not count.
        real_tokens: real tokens of both sides, counted from the masks.
        source_bytes: UTF-8 bytes of the source texts; a truncated text counts in full.
    """

    steps: float | None = None
    seconds: float | None = None
    real_tokens: float | None = None
    source_bytes: float | None = None


UNITS = tuple(field.name for field in fields(Amounts))


class TrainingBudget(LightningCompat, pl.Callback):
    """End training at the first optimizer step that reaches one of the limits, and count the amounts spent.

    All ranks stop at the same step. Checkpoints contain the amounts spent, so a resumed run has the rest of its budget.
    To count tokens, batches need the masks of mtx. To count bytes, the data module needs a method
    `num_source_bytes(row_ids, split)`, as mtx's data module has. In `spent`, an amount that cannot be counted is None;
    bytes are counted only if they are limited.

    Args:
        steps: maximal number of optimizer steps; None: no limit, as for all other arguments.
        seconds: maximal seconds of training, without validations.
        real_tokens: maximal number of real tokens of both sides.
        source_bytes: maximal number of UTF-8 bytes of source text.

    Attributes:
        spent: the amounts spent so far by all ranks; updated at each optimizer step.

    Raises:
        ConfigError: a limit is not above 0, or the checkpoint's run did not count the unit of a limit.
        DataError: the unit of a limit cannot be counted in the batches.
    """

    @checked("budget")
    def __init__(
        self,
        *,
        steps: Count | None = None,
        seconds: Annotated[float, Field(gt=0)] | None = None,
        real_tokens: Amount | None = None,
        source_bytes: Amount | None = None,
    ) -> None:
        self.limits = Amounts(steps=steps, seconds=seconds, real_tokens=real_tokens, source_bytes=source_bytes)
        self.spent = Amounts(steps=0, seconds=0.0, real_tokens=0, source_bytes=0)
        self._waiting = torch.zeros(len(UNITS), dtype=torch.float64)  # amounts of this rank since the last step
        self._mark = 0.0
        self._seen_step = 0

    @property
    def is_limited(self) -> bool:
        """Whether the budget has any limit."""
        return any(limit is not None for limit in asdict(self.limits).values())

    @property
    def spent_units(self) -> list[str]:
        """The units whose limit is reached; empty while training may continue."""
        pairs = {unit: (getattr(self.spent, unit), getattr(self.limits, unit)) for unit in UNITS}
        return [unit for unit, (spent, limit) in pairs.items() if None not in (spent, limit) and spent >= limit]

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for unit, spent in asdict(self.spent).items():
            if spent is None and getattr(self.limits, unit) is not None:
                raise ConfigError(
                    f"budget.{unit} counts from the beginning of a training, but the checkpoint's run had no "
                    f"budget.{unit} and did not count the unit. Set budget.steps, budget.seconds or "
                    "budget.real_tokens, which every run counts, or start a new run without the checkpoint"
                )
        self._seen_step = trainer.global_step
        self._waiting.zero_()
        self._mark = time.perf_counter()
        self._stop_where_spent(trainer)  # a resumed run may have spent its budget already

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        steps = trainer.global_step - self._seen_step
        self._waiting += torch.tensor([steps, now - self._mark, *self._counted(trainer, batch)], dtype=torch.float64)
        self._mark = now
        self._seen_step = trainer.global_step
        if steps:
            self._add_up(trainer)
            self._stop_where_spent(trainer)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._waiting[UNITS.index("seconds")] += time.perf_counter() - self._mark

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    @override
    def state_dict(self) -> dict[str, Any]:
        return asdict(self.spent)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = Amounts(**state_dict)

    def _counted(self, trainer: pl.Trainer, batch: Any) -> tuple[float, float]:
        """Return the real tokens and the source bytes of a batch; NaN for an amount that cannot be counted."""
        counts = flat_token_counts(batch) if is_flat(batch) else [int(m.count_nonzero()) for m in batch_masks(batch)]
        tokens = float(sum(counts)) if len(counts) == 2 or is_causal(batch) else math.nan
        count = getattr(getattr(trainer, "datamodule", None), "num_source_bytes", None)
        row_ids = batch_tensor(batch, "row_ids")
        if self.limits.source_bytes is None or count is None or row_ids is None:
            return tokens, math.nan
        return tokens, float(count(row_ids.cpu(), "train").sum())

    def _add_up(self, trainer: pl.Trainer) -> None:
        """Add the amounts of all ranks since the last optimizer step; every rank calls this method at the same step."""
        total = self._waiting.clone()
        if trainer.world_size > 1:
            device = trainer.strategy.root_device
            dtype = torch.float32 if device.type == "mps" else torch.float64
            summed: Any = trainer.strategy.reduce(total.to(device, dtype), reduce_op="sum")
            total = summed.cpu().double()
            for unit in ("steps", "seconds"):  # all ranks spend the same steps and seconds, so their mean counts
                total[UNITS.index(unit)] /= trainer.world_size
        self._waiting.zero_()
        spent: dict[str, float | None] = {}
        for unit, more in zip(UNITS, total.tolist(), strict=True):
            before = getattr(self.spent, unit)
            more = more if unit == "seconds" or math.isnan(more) else round(more)  # others are integers
            spent[unit] = None if before is None or math.isnan(more) else before + more
            if spent[unit] is None and getattr(self.limits, unit) is not None:
                raise DataError(
                    f"budget.{unit} cannot be counted in these batches. Batches need the masks and row_ids of mtx's "
                    "data module, and the Trainer needs that data module. Set budget.steps or budget.seconds instead"
                )
        self.spent = Amounts(**spent)

    def _stop_where_spent(self, trainer: pl.Trainer) -> None:
        if self.spent_units:
            trainer.should_stop = True
