"""Evaluation of a trained model: bits per byte, and translations by beam search.

`from mtx.evaluation import …` has what a user's own model needs; `docs/howto/own_model.md` shows it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtx.evaluation.held_out_bits import bits_per_byte_of, log_held_out
    from mtx.evaluation.translator_protocol import Translator

__all__ = ["Translator", "bits_per_byte_of", "log_held_out"]

_HOMES = {
    "Translator": "mtx.evaluation.translator_protocol",
    "bits_per_byte_of": "mtx.evaluation.held_out_bits",
    "log_held_out": "mtx.evaluation.held_out_bits",
}


def __getattr__(name: str) -> Any:  # lazily, so that pages, which read this package, do not import torch
    if name not in _HOMES:
        raise AttributeError(f"module 'mtx.evaluation' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
