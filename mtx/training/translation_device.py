"""The device on which a checkpoint translates."""

import torch

from mtx.errors import ConfigError
from mtx.library_errors import library_reason


def translation_device(name: str | None) -> torch.device:
    """Return the device with a name, after an allocation on it; None: a GPU if there is one.

    Raises ConfigError if torch cannot use the device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
        raise ConfigError(
            f"task.device={name} is no device of torch here ({library_reason(error)}). Set task.device=cpu"
        ) from error
    return device
