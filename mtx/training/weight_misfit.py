"""Why a model does not take the weights of a checkpoint."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from mtx.library_errors import library_reason


def misfit_reason(error: Exception, weights: Mapping[str, Any], model: torch.nn.Module | None) -> str:
    """Return why a model does not take the weights of a checkpoint; `model` is None if it could not be built."""
    own = {} if model is None else model.state_dict()
    if missing := [name for name in own if name not in weights]:
        return f"it has no weight {missing[0]}"
    if model is not None and (more := [name for name in weights if name not in own]):
        return f"the model has no weight {more[0]}"
    for name in own:
        there, here = _shape(weights[name]), _shape(own[name])
        if there is not None and here is not None and there != here:
            return f"{name} has shape {there} in it and {here} in the model"
    return library_reason(error)


def _shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a tensor; None for other values of a state, and for a parameter without a shape yet."""
    with suppress(RuntimeError):
        return tuple(value.shape) if isinstance(value, torch.Tensor) else None
    return None
