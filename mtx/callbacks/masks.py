"""Which positions of a batch hold real tokens, under the names of either `datamodule.batch_format`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

SOURCE_MASKS = ("encoder_attn_mask", "attention_mask")
TARGET_MASKS = ("decoder_attn_mask", "decoder_attention_mask")


def source_mask(batch: Any) -> Tensor | None:
    """Return the source's mask, bool or int64 [B, S], not 0 at real tokens; None where the batch has none."""
    return _first(batch, SOURCE_MASKS)


def target_mask(batch: Any) -> Tensor | None:
    """Return the target's mask, bool or int64 [B, T], not 0 at real tokens; None where the batch has none."""
    return _first(batch, TARGET_MASKS)


def _first(batch: Any, names: tuple[str, ...]) -> Tensor | None:
    if isinstance(batch, Mapping):
        for name in names:
            if isinstance(found := batch.get(name), Tensor):
                return found
    return None
