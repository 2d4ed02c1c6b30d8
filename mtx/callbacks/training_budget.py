"""The end of a training run, in what makes runs comparable: steps, seconds, real tokens, or bytes of source text."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from typing_extensions import override

from mtx.callbacks.masks import source_mask, target_mask
from mtx.errors import ConfigError, DataError
from mtx.lightning import OfBothPackages, pl


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """Amounts of training, over all ranks.

    Attributes:
        steps: optimizer steps.
        seconds: in training batches, waiting for data included; looks at held-out text and checkpoints left out.
        real_tokens: real tokens of both sides, by the masks.
        source_bytes: UTF-8 bytes of the source texts; of a truncated text all of them.
    """

    steps: float | None = None
    seconds: float | None = None
    real_tokens: float | None = None
    source_bytes: float | None = None


UNITS = tuple(field.name for field in fields(Amounts))


class TrainingBudget(OfBothPackages, pl.Callback):
    """Ends training with the first optimizer step that reaches one of the amounts, and counts what was spent.

    Every rank stops at the same step. What was spent is in checkpoints, so a run that goes on has the rest of its
    budget. Tokens need the masks of mtx's batches, and bytes a data module with
    `num_source_bytes(row_ids, split)`, as mtx's own. In `spent`, what cannot be counted is None, and so are bytes that
    nobody limits.

    Args:
        steps: optimizer steps; None: any number. Likewise all others.
        seconds: of training, without looks at held-out text.
        real_tokens: real tokens of both sides.
        source_bytes: UTF-8 bytes of source text.

    Attributes:
        spent: the amounts so far, all ranks together; complete after each optimizer step.

    Raises:
        ConfigError: an amount is not above 0, or the run that a checkpoint comes from did not count its unit.
        DataError: the unit of the budget cannot be counted in these batches.
    """

    def __init__(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        real_tokens: int | None = None,
        source_bytes: int | None = None,
    ) -> None:
        self.limits = Amounts(steps=steps, seconds=seconds, real_tokens=real_tokens, source_bytes=source_bytes)
        for unit, limit in asdict(self.limits).items():
            if limit is not None and not limit > 0:
                raise ConfigError(f"budget.{unit} is above 0, or null for no such end, but is {limit}")
        self.spent = Amounts(steps=0, seconds=0.0, real_tokens=0, source_bytes=0)
        self._waiting = torch.zeros(len(UNITS), dtype=torch.float64)  # of this rank since the last optimizer step
        self._mark = 0.0
        self._seen_step = 0

    @property
    def is_limited(self) -> bool:
        """Whether any amount ends the training."""
        return any(limit is not None for limit in asdict(self.limits).values())

    @property
    def reached(self) -> list[str]:
        """The units whose amount is spent, at least; empty: nothing ends the training yet."""
        pairs = {unit: (getattr(self.spent, unit), getattr(self.limits, unit)) for unit in UNITS}
        return [unit for unit, (spent, limit) in pairs.items() if None not in (spent, limit) and spent >= limit]

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for unit, spent in asdict(self.spent).items():
            if spent is None and getattr(self.limits, unit) is not None:
                raise ConfigError(
                    f"budget.{unit} counts from the beginning of a training, but the run of the checkpoint did not "
                    f"count it, since it had no budget.{unit}. Use a unit that every run counts, as budget.steps, "
                    "budget.seconds or budget.real_tokens, or start anew without the checkpoint"
                )
        self._seen_step = trainer.global_step
        self._waiting.zero_()
        self._mark = time.perf_counter()
        self._stop_where_spent(trainer)  # a run that goes on may have nothing left

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
        """Return the real tokens and the source bytes of a batch, NaN where they are not known."""
        masks = [mask for mask in (source_mask(batch), target_mask(batch)) if mask is not None]
        tokens = float(sum(int(mask.count_nonzero()) for mask in masks)) if len(masks) == 2 else math.nan
        count = getattr(getattr(trainer, "datamodule", None), "num_source_bytes", None)
        row_ids = batch.get("row_ids") if isinstance(batch, Mapping) else None
        if self.limits.source_bytes is None or count is None or row_ids is None:
            return tokens, math.nan
        return tokens, float(count(row_ids.cpu(), "train").sum())

    def _add_up(self, trainer: pl.Trainer) -> None:
        """Add what all ranks spent since the last step; every rank comes here at the same step."""
        total = self._waiting.clone()
        if trainer.world_size > 1:
            device = trainer.strategy.root_device
            dtype = torch.float32 if device.type == "mps" else torch.float64
            summed: Any = trainer.strategy.reduce(total.to(device, dtype), reduce_op="sum")
            total = summed.cpu().double()
            for unit in ("steps", "seconds"):  # which ranks spend together
                total[UNITS.index(unit)] /= trainer.world_size
        self._waiting.zero_()
        spent: dict[str, float | None] = {}
        for unit, more in zip(UNITS, total.tolist(), strict=True):
            before = getattr(self.spent, unit)
            more = more if unit == "seconds" or math.isnan(more) else round(more)  # all others are counted
            spent[unit] = None if before is None or math.isnan(more) else before + more
            if spent[unit] is None and getattr(self.limits, unit) is not None:
                raise DataError(
                    f"budget.{unit} ends the training by what its batches hold, but these do not tell. Batches need "
                    "the masks and row_ids of mtx's own, and the Trainer its data module. Set budget.steps or "
                    "budget.seconds instead"
                )
        self.spent = Amounts(**spent)

    def _stop_where_spent(self, trainer: pl.Trainer) -> None:
        if self.reached:
            trainer.should_stop = True
