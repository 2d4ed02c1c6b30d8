"""Resume an epoch from a checkpoint: on the same data only, and on any number of ranks."""

from collections.abc import Mapping
from typing import Any

from mtx.components.identity import JSON
from mtx.errors import ConfigError
from mtx.training.callbacks.random_states_and_gradients import STATE_KEY as EXACT_RESUME
from mtx.training.loader import EpochBatches

NAMED_CAUSES = ("score.", "downloader.options.", "datamodule.share")
MAX_NAMED_DIFFERENCES = 8  # differences that one error message lists


def flat_mapping(described: Mapping[str, JSON], prefix: str = "") -> dict[str, JSON]:
    """Flatten nested mappings into one mapping with dotted keys, such as `sampler.max_tokens`."""
    found: dict[str, JSON] = {}
    for name, value in described.items():
        if isinstance(value, Mapping):
            found.update(flat_mapping(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found


def decides_pairs(key: str) -> bool:
    """Return whether a difference at this key of the data's description alone means that other pairs are served.

    Scores, the share, and options of the sources of a mixture only name the cause. If they change the pairs, the id of
    the filtered pairs differs, too.
    """
    return not key.startswith(NAMED_CAUSES)


def check_same_data(saved: Mapping[str, JSON], now: Mapping[str, JSON]) -> None:
    """Check that the data of a checkpoint and the data of this run are the same.

    Raises ConfigError if they differ; the message lists the keys that differ, with both values.
    """
    before, after = flat_mapping(saved), flat_mapping(now)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if not any(decides_pairs(key) for key in keys):
        return
    told = [f"{key} was {before.get(key)!r} and is {after.get(key)!r}" for key in keys[:MAX_NAMED_DIFFERENCES]]
    more = f", and {len(keys) - MAX_NAMED_DIFFERENCES} more" if len(keys) > MAX_NAMED_DIFFERENCES else ""
    raise ConfigError(
        f"the epoch of the checkpoint cannot be resumed, because its data differs: {'; '.join(told)}{more}. Set these "
        "keys to their former values, or start a new run from the weights alone: Model.load_from_checkpoint(path), "
        "then fit without ckpt_path"
    )


def unfinished_state(trainer: Any, loader: Mapping[str, Any]) -> dict[str, int | bool]:
    """Return the work that a checkpoint written now would leave unfinished.

    Args:
        trainer: the Trainer that writes the checkpoint.
        loader: the state of the Trainer's training loader.

    Returns:
        `undone`: batches of the epoch that are not yet in the weights. These are batches whose gradients are still
            accumulated, and the batch that is being processed. `waiting`: those of them whose gradients are
            accumulated. `look_due`: True if a validation is due or in progress.
    """
    loop = trainer.fit_loop.epoch_loop
    batch, look = loop.batch_progress, loop.val_loop.batch_progress
    begun = batch.current.ready - batch.current.processed
    is_applied = batch.is_last_batch and not begun  # the last batch of an epoch applies all gradients, once it is done
    waiting = 0 if is_applied else batch.current.processed % trainer.accumulate_grad_batches
    if trainer.validating and trainer.state.fn == "fit":
        look_due = not (look.is_last_batch and look.current.completed == look.current.ready)
    else:  # a callback that saves at the end of a batch runs before the validation of that batch
        look_due = batch.current.completed < batch.current.processed and loop._should_check_val_fx(
            trainer.fit_loop._data_fetcher
        )
    ranks, steps = loader["served"][-1] if loader["served"] else (0, 0)
    own = steps if ranks == trainer.world_size else 0  # steps of another number of ranks are all in the weights
    undone = min(begun + waiting, own)
    return {"undone": undone, "waiting": undone - min(begun, own), "look_due": bool(look_due)}


def continue_epoch(trainer: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the loader state from which to resume, and set the Trainer's loops to the same position.

    Lightning does not resume unfinished work of a checkpoint correctly. It loses accumulated gradients. It resumes a
    validation in the middle, without the results of the first half, or skips the validation. It never trains on the
    rest of an epoch that ended early, at `max_steps` or by a callback.
    This function corrects all of these. Batches that are not in the weights are trained on again, unless `ExactResume`
    saved their gradients. An interrupted validation starts again from its first batch. An epoch that ended early is
    continued.

    Args:
        trainer: the Trainer, before it restores its loops.
        state: `loader`, as `PlanLoader.state_dict` returns it, and the values of `unfinished_state`.
    """
    loader: dict[str, Any] = {**state["loader"], "served": [list(part) for part in state["loader"]["served"]]}
    checkpoint = trainer._checkpoint_connector._loaded_checkpoint
    loops = checkpoint["loops"]["fit_loop"]
    epoch, batch = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    look = loops["epoch_loop.val_loop.batch_progress"]
    if loader["served"] and not batch["is_last_batch"] and epoch["current"]["processed"] > loader["epoch"]:
        for count in (epoch["total"], epoch["current"]):
            count["completed"] = count["processed"] = count["processed"] - 1
    elif batch["is_last_batch"] and epoch["total"]["processed"] == epoch["total"]["ready"]:  # start the next epoch
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
        batch["is_last_batch"] = False  # otherwise, Lightning skips a last batch that had only begun
    elif state["look_due"]:
        for count in (batch["total"], batch["current"]):
            count["completed"] = count["processed"]
    if undone or state["look_due"]:
        begun = int(not undone)  # one started validation batch makes Lightning run the validation
        look["total"].update(ready=begun, started=begun, processed=0, completed=0)
        look["current"].update(ready=0, started=0, processed=0, completed=0)
    if loops["state_dict"].get("combined_loader") == [state["loader"]]:
        loops["state_dict"]["combined_loader"] = [loader]
    return loader


def set_epoch_steps(trainer: Any, batches: EpochBatches) -> None:
    """Make a Trainer count the steps of an epoch as if the current number of ranks had trained on the whole epoch.

    A checkpoint stores the number of steps taken by the ranks of its run. Lightning ends an epoch when this count
    reaches the length of the loader. After a change of the number of ranks, the count is set to the length of the
    loader minus the remaining steps. If the number of ranks is the same, nothing is changed.
    """
    total = trainer.num_training_batches
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if not batches.served:  # a new epoch; Lightning checks whether the previous epoch has ended
        begin = total if progress.is_last_batch else progress.current.ready
    elif batches.served[-1][0] == batches.world_size:
        return
    elif total == len(batches):
        begin = total - batches.num_left()
    else:  # cut short by limit_train_batches
        begin = min(total, sum(ranks * steps for ranks, steps in batches.served) // batches.world_size)
        if begin == total and not progress.is_last_batch:  # keep one step, which ends the epoch with a validation
            begin -= 1
    shift = begin - progress.current.ready
    for name in ("ready", "started", "processed", "completed"):
        setattr(progress.current, name, getattr(progress.current, name) + shift)
