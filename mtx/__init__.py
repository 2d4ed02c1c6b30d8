"""mtx: an experiment harness for the training data of translation models."""

import sys
from typing import TYPE_CHECKING, Any

from mtx.components.former_paths import FormerPathFinder

if TYPE_CHECKING:
    from mtx.app.command import compose_datamodule
    from mtx.app.datamodule_from_composed_config import datamodule_from_config
    from mtx.batches.plan.planner import Planner
    from mtx.data.filter.filter_protocol import PairFilter
    from mtx.data.function_components import normalise_step, rule, scorer
    from mtx.data.tokenize.tokenization import Tokenization
    from mtx.infra.dataset.download import Downloader
    from mtx.training.checkpoint_translator import load_translator
    from mtx.training.datamodule import TranslationDataModule

__all__ = [
    "Downloader",
    "PairFilter",
    "Planner",
    "Tokenization",
    "TranslationDataModule",
    "__version__",
    "compose_datamodule",
    "datamodule_from_config",
    "load_translator",
    "normalise_step",
    "rule",
    "scorer",
]

__version__ = "0.1.0"

_HOMES = {
    "Downloader": "mtx.infra.dataset.download",
    "PairFilter": "mtx.data.filter.filter_protocol",
    "Planner": "mtx.batches.plan.planner",
    "Tokenization": "mtx.data.tokenize.tokenization",
    "TranslationDataModule": "mtx.training.datamodule",
    "compose_datamodule": "mtx.app.command",
    "datamodule_from_config": "mtx.app.datamodule_from_composed_config",
    "load_translator": "mtx.training.checkpoint_translator",
    "normalise_step": "mtx.data.function_components",
    "rule": "mtx.data.function_components",
    "scorer": "mtx.data.function_components",
}

if not any(isinstance(finder, FormerPathFinder) for finder in sys.meta_path):
    sys.meta_path.insert(0, FormerPathFinder())


def __getattr__(name: str) -> Any:  # imports the public names lazily, so that `import mtx` does not import torch
    if name not in _HOMES:
        raise AttributeError(f"module 'mtx' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
