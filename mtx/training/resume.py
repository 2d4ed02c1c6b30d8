"""Going on with an epoch that a checkpoint has begun: only on the same data, on any number of ranks."""

from collections.abc import Mapping
from typing import Any

from mtx.callbacks.exact_resume import KEY as EXACT_RESUME
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


def open_ends(trainer: Any, loader: Mapping[str, Any]) -> dict[str, int | bool]:
    """Return what a checkpoint written now would leave half done.

    Args:
        trainer: as it is.
        loader: the state of its training loader.

    Returns:
        `undone`: steps of the epoch that the weights do not know of: batches whose gradients wait to be added up with
        others, and one that is being worked on. `waiting`: those of them whose gradients wait. `look_due`: held-out
        text was to be looked at, or is being.
    """
    loop = trainer.fit_loop.epoch_loop
    batch, look = loop.batch_progress, loop.val_loop.batch_progress
    waiting = 0 if batch.is_last_batch else batch.current.processed % trainer.accumulate_grad_batches
    begun = batch.current.ready - batch.current.processed
    if trainer.validating and trainer.state.fn == "fit":
        look_due = not (look.is_last_batch and look.current.completed == look.current.ready)
    else:  # a callback saves behind a batch, and the look comes after that
        look_due = batch.current.completed < batch.current.processed and loop._should_check_val_fx(
            trainer.fit_loop._data_fetcher
        )
    ranks, steps = loader["served"][-1] if loader["served"] else (0, 0)
    own = steps if ranks == trainer.world_size else 0  # others went on from their last update
    undone = min(begun + waiting, own)
    return {"undone": undone, "waiting": undone - min(begun, own), "look_due": bool(look_due)}


def mend(trainer: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of the loader to go on with, and let the Trainer's loops go on at the same place.

    Of what a checkpoint leaves half done, Lightning loses the gradients that were waiting, takes up a look at
    held-out text in its middle without its first half, or leaves it out; and what is left of an epoch that ended early,
    at `max_steps` or by a callback, it never serves. So: steps that the weights do not know of are taken again (but for
    those whose gradients `ExactResume` kept), a look begins anew, and such an epoch goes on.

    Args:
        trainer: before it restores its loops.
        state: `loader`, as `PlanLoader.state_dict` returns it, and what `open_ends` returned.
    """
    loader: dict[str, Any] = {**state["loader"], "served": [list(part) for part in state["loader"]["served"]]}
    checkpoint = trainer._checkpoint_connector._loaded_checkpoint
    loops = checkpoint["loops"]["fit_loop"]
    epoch, batch = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    look = loops["epoch_loop.val_loop.batch_progress"]
    if loader["served"] and not batch["is_last_batch"] and epoch["current"]["processed"] > loader["epoch"]:
        for count in (epoch["total"], epoch["current"]):
            count["completed"] = count["processed"] = count["processed"] - 1
    elif batch["is_last_batch"] and epoch["total"]["processed"] == epoch["total"]["ready"]:  # so the next one begins
        for count in (epoch["total"], epoch["current"]):
            count["completed"] = count["processed"]
        batch["current"].update(dict.fromkeys(batch["current"], 0))
        batch["is_last_batch"] = False
    kept = bool(checkpoint.get(EXACT_RESUME, {}).get("gradients"))
    undone = state["undone"] - (state["waiting"] if kept else 0)
    if undone:
        loader["served"][-1][1] -= undone
        loader["served"] = [part for part in loader["served"] if part[1]]
        begun = batch["current"]["ready"] - batch["current"]["processed"]
        for count in (batch["total"], batch["current"]):
            count.update(dict.fromkeys(count, count["processed"] - undone + begun))
    elif state["look_due"]:
        for count in (batch["total"], batch["current"]):
            count["completed"] = count["processed"]
    if undone or state["look_due"]:
        begun = int(not undone)  # one batch of the look, so that Lightning takes it up
        look["total"].update(ready=begun, started=begun, processed=0, completed=0)
        look["current"].update(ready=0, started=0, processed=0, completed=0)
    if loops["state_dict"].get("combined_loader") == [state["loader"]]:
        loops["state_dict"]["combined_loader"] = [loader]
    return loader


def count_from_here(trainer: Any, batches: EpochBatches) -> None:
    """Make a Trainer count the steps of an epoch as if these ranks had begun it.

    A checkpoint has the steps that another number of ranks took. Lightning ends an epoch when its count reaches the
    length of the loader, so the count is set to what is missing from that. Nothing to do where the number is the same.
    """
    total = trainer.num_training_batches
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if not batches.served:  # the next epoch; Lightning looks whether the one before is at its end
        begin = total if progress.is_last_batch else progress.current.ready
    elif batches.served[-1][0] == batches.world_size:
        return
    elif total == len(batches):
        begin = total - batches.num_left()
    else:  # cut short by limit_train_batches
        begin = min(total, sum(ranks * steps for ranks, steps in batches.served) // batches.world_size)
        if begin == total and not progress.is_last_batch:  # so that the epoch has a last step, and a look behind it
            begin -= 1
    shift = begin - progress.current.ready
    for name in ("ready", "started", "processed", "completed"):
        setattr(progress.current, name, getattr(progress.current, name) + shift)
