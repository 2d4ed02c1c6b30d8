"""What a Trainer must know of a streamed training split, whose number of batches is known only at its end."""

from typing import Any

from mtx.training.trainer_settings import check_stream_settings

UNKNOWN_LENGTH = 10**12  # batches of an epoch, for a Trainer, of a loader that does not know how many it has


def tell_epoch_end(trainer: Any) -> None:
    """Tell a Trainer that the next batch is the last one of the epoch; called while the Trainer fetches that batch.

    Lightning fixes the length of an epoch before its first batch. A loader without a length would be read one batch
    ahead, and a checkpoint would then have the wrong position.
    """
    loop = trainer.fit_loop
    fetcher, total = loop._data_fetcher, loop.epoch_loop.batch_progress.current.ready + 1
    if fetcher.length is not None and fetcher.length <= fetcher.fetched:
        return  # limit_train_batches ends the epoch here or earlier
    fetcher.length = fetcher.fetched + 1
    loop.max_batches = total
    if isinstance(trainer.val_check_interval, float):
        trainer.val_check_batch = total


def check_streamed_trainer(trainer: Any, num_source_rows: int | None) -> None:
    """Check that a Trainer ends, and that none of its settings needs the number of batches.

    Args:
        trainer: the Trainer.
        num_source_rows: the limit `downloader.n`; None: the source may have any number of rows.

    Raises:
        ConfigError: a setting needs the number of batches, or neither steps nor rows are limited.
    """
    names = ("max_steps", "overfit_batches", "limit_train_batches", "val_check_interval")
    # TrainingBudget has this attribute; importing its class needs one of the two packages of Lightning.
    has_budget = any(getattr(callback, "is_limited", False) for callback in trainer.callbacks)
    is_limited = num_source_rows is not None or has_budget
    check_stream_settings({name: getattr(trainer, name) for name in names}, is_limited=is_limited)
