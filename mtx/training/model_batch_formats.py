"""Check, before the first step, that a model takes batches of the chosen format."""

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
