"""Check, before the first step, that a model takes batches of the chosen format."""

from collections.abc import Callable, Mapping
from typing import Any

from mtx.errors import ConfigError

PADDED_FORMATS = ("mtx", "huggingface")  # what a model is assumed to take that says nothing


def check_model_format(model: object, batch_format: str) -> None:
    """Check that `model` takes batches with `datamodule.batch_format=batch_format`.

    A model says so with an attribute `batch_formats`, a tuple of names. A model without it is assumed to take padded
    batches only: flat batches have other shapes, and most models would fail or mix the tokens of several pairs.

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


def check_target_nats(model: Any, facts: Callable[[], Mapping[str, Any]]) -> None:
    """Check that `target_nats` of a model computes the likelihood of each pair of a packed batch from that pair alone.

    A model without the method, or which builds its network in `configure_model`, is not checked here: `packed_outputs`
    checks the transformers model at its first call.

    Args:
        model: the LightningModule.
        facts: returns the facts of the data, with the sizes of the vocabularies.

    Raises:
        ConfigError: a change of one pair changes the likelihood of another.
    """
    if not hasattr(model, "target_nats") or _is_built_later(model):
        return
    from mtx.training.pair_leakage import check_pairs_are_apart  # which imports torch

    sizes = {f"num_{side}_ids": facts()[f"{side}_vocab_size"] for side in ("source", "target")}
    check_pairs_are_apart(model.target_nats, model, **sizes)


def _is_built_later(model: Any) -> bool:
    """Return whether a class of the user's, not of Lightning, defines `configure_model`."""
    own = (kind for kind in type(model).__mro__ if not kind.__module__.startswith(("lightning.", "pytorch_lightning.")))
    return any("configure_model" in vars(kind) for kind in own)
