"""Callback that writes the translations of `trainer.predict` to a file, in the order of the lines to translate."""

import os
from typing import Any

import torch
from typing_extensions import override

from mtx.errors import DataError
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.training.lightning_compat import LightningCompat, pl


class TranslationWriter(LightningCompat, pl.Callback):
    """Writes one translation in each line, sorted by `row_ids`, when the prediction of all ranks is complete.

    `predict_step` of the model returns a dict with `row_ids`, int64 [B], and `texts`, as the reference model does.
    Use it as `Trainer(callbacks=[TranslationWriter("text.de")]).predict(model, datamodule=dm)`.

    Args:
        path: the file, which is replaced when the prediction is complete.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = expanded_path(path)
        self._texts: dict[int, str] = {}

    @override
    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self._texts = {}

    @override
    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not isinstance(outputs, dict) or not {"row_ids", "texts"} <= outputs.keys():
            raise DataError(
                f"TranslationWriter needs row_ids and texts from predict_step, but {type(pl_module).__name__} returned "
                f"{type(outputs).__name__}. Return a dict with both"
            )
        self._texts.update(zip(outputs["row_ids"].tolist(), outputs["texts"], strict=True))

    @override
    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        parts: list[dict[int, str]] = [self._texts]
        if trainer.world_size > 1:
            parts = [{}] * trainer.world_size
            torch.distributed.all_gather_object(parts, self._texts)
        if trainer.is_global_zero:
            found = {row: text for part in parts for row, text in part.items()}
            lines = [found[row].replace("\r", " ").replace("\n", " ") + "\n" for row in sorted(found)]
            with atomic_file(self.path) as file:
                file.write("".join(lines).encode(errors="replace"))
