"""Going on with an epoch that a checkpoint has begun: only on the same data, on any number of ranks."""

from collections.abc import Mapping
from typing import Any

from mtx.errors import ConfigError
from mtx.identity import JSON
from mtx.training.loader import EpochBatches

MAX_TOLD = 8  # differences named in one message


def flat(described: Mapping[str, JSON], prefix: str = "") -> dict[str, JSON]:
    """Return nested mappings as one with dotted keys, as `sampler.max_tokens`."""
    found: dict[str, JSON] = {}
    for name, value in described.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found


def check_same_data(saved: Mapping[str, JSON], now: Mapping[str, JSON]) -> None:
    """Raise ConfigError that names what differs between the data of a checkpoint and that of this run."""
    before, after = flat(saved), flat(now)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if not keys:
        return
    told = [f"{key} was {before.get(key)!r} and is {after.get(key)!r}" for key in keys[:MAX_TOLD]]
    more = f", and {len(keys) - MAX_TOLD} more" if len(keys) > MAX_TOLD else ""
    raise ConfigError(
        f"the checkpoint's epoch cannot go on: its batches were made from other data: {'; '.join(told)}{more}. "
        "Set these back, or start a new run from the weights alone: Model.load_from_checkpoint(path), then fit "
        "without ckpt_path"
    )


def count_from_here(trainer: Any, batches: EpochBatches) -> None:
    """Make a Trainer count the steps of an epoch as if these ranks had begun it.

    A checkpoint has the steps that another number of ranks took. Lightning ends an epoch when its count reaches the
    length of the loader, so the count is set to what is missing from that. Nothing to do where the number is the same.
    """
    if not batches.served or batches.served[-1][0] == batches.world_size:
        return
    total, left = trainer.num_training_batches, batches.num_left()
    if total == len(batches):
        begin = total - left
    else:  # cut short by limit_train_batches
        begin = min(total, sum(ranks * steps for ranks, steps in batches.served) // batches.world_size)
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    shift = begin - progress.ready
    for name in ("ready", "started", "processed", "completed"):
        setattr(progress, name, getattr(progress, name) + shift)
