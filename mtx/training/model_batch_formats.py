"""Check, before the first step, that a model takes batches of the chosen format."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mtx.errors import ConfigError

if TYPE_CHECKING:
    from mtx.training.split_data import SplitData

PADDED_FORMATS = ("mtx", "huggingface")  # what a model is assumed to take that says nothing
CHECKED_PAIRS = 32  # pairs of a split on which `target_nats` is checked


def check_model_format(model: object, batch_format: str) -> None:
    """Check that `model` takes batches with `datamodule.batch_format=batch_format`.

    A model says so with an attribute `batch_formats`, a tuple of names. A model without it is assumed to take padded
    batches only. Flat batches have other shapes, and most models would fail or mix the tokens of several pairs.

    Raises:
        ConfigError: the model does not take such batches.
    """
    declared = getattr(model, "batch_formats", None)
    taken = PADDED_FORMATS if declared is None else (declared,) if isinstance(declared, str) else tuple(declared)
    if model is None or batch_format in taken:
        return
    name = type(model).__name__
    add = (
        ""
        if declared is not None
        else f". If {name} does take such batches, add the attribute "
        f"batch_formats = {(*PADDED_FORMATS, batch_format)!r} to its class"
    )
    raise ConfigError(
        f"the model {name} does not take batches with datamodule.batch_format={batch_format}; the formats that it "
        f"takes are {', '.join(taken)}. Set datamodule.batch_format={taken[0]}{add}"
    )


def check_packed_split(trainer: Any, split: "SplitData", facts: Callable[[], Mapping[str, Any]], name: str) -> None:
    """Check that the model of a Trainer takes packed batches of a split, and does not mix their pairs.

    `target_nats` of the model, if it has this method, must compute the likelihood of each pair from that pair alone.
    `packed_outputs` checks a transformers model at its first call; only this is done if a strategy shards the model.

    Args:
        trainer: the Trainer, whose strategy has moved the model to its device.
        split: the pairs of a split.
        facts: returns the facts of the data, with the sizes of the vocabularies.
        name: the name of the split.

    Raises:
        ConfigError: a source has no tokens and the model has an encoder, or the likelihood depends on other pairs.
    """
    model = trainer.lightning_module
    is_used = np.ones(len(split.pairs), bool) if split.excluded is None else ~split.excluded
    num_empty = int(np.count_nonzero(is_used & (split.lengths.source == 0)))
    if num_empty and _has_encoder(model):
        raise ConfigError(
            "with datamodule.batch_format=huggingface_packed, an encoder-decoder model needs at least one token in "
            f"each source, but {num_empty} pairs of the {name} split have none. Set datamodule.source_eos=true"
        )
    if not hasattr(model, "target_nats") or trainer.strategy.restore_checkpoint_after_setup:  # as sharding ones do
        return
    from mtx.batches.collate import collate_rows  # which imports torch
    from mtx.training.pair_leakage import check_batch_is_apart, check_pairs_are_apart, model_device

    sizes = {f"num_{side}_ids": facts()[f"{side}_vocab_size"] for side in ("source", "target")}
    batch = collate_rows(split.pairs, np.flatnonzero(is_used)[:CHECKED_PAIRS], split.layout)
    with trainer.precision_plugin.forward_context():
        check_pairs_are_apart(model.target_nats, model, **sizes)
        device = model_device(model)
        check_batch_is_apart(model.target_nats, model, {key: tensor.to(device) for key, tensor in batch.items()})


def _has_encoder(model: Any) -> bool:
    configs = (getattr(each, "config", None) for each in model.modules())
    return any(getattr(config, "is_encoder_decoder", False) is True for config in configs)
