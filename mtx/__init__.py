"""mtx: an experiment harness for the training data of translation models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtx.app import compose_datamodule
    from mtx.training.datamodule import TranslationDataModule

__all__ = ["TranslationDataModule", "__version__", "compose_datamodule"]

__version__ = "0.1.0"

_HOMES = {"TranslationDataModule": "mtx.training.datamodule", "compose_datamodule": "mtx.app"}


def __getattr__(name: str) -> Any:  # so that `import mtx` and `mtx --help` do not wait for torch
    if name not in _HOMES:
        raise AttributeError(f"module 'mtx' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
