"""Predictions written in the source's order, on one process and on two ranks, for `test_predict.py`.

    python predict_runs.py FOLDER

Reads FOLDER/text.txt and writes FOLDER/one.txt and FOLDER/two.txt, with what each rank was told of its rows.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from rank_runs import QUIET, datamodule
from torch import Tensor


class Echo(pl.LightningModule):
    """Says each source again."""

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> list[str]:
        decode = self.trainer.datamodule.tokenizers.source.decode  # type: ignore[attr-defined]
        return [decode(row) for row in batch["encoder_input_ids"].tolist()]


class InOrder(BasePredictionWriter):
    """Writes texts by the row numbers that Lightning passes on."""

    def __init__(self, path: Path) -> None:
        super().__init__("batch_and_epoch")
        self.path = path
        self.told: list[list[int]] = []

    def write_on_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        _, batch_indices, batch, *_ = arguments
        assert batch_indices == batch["row_ids"].tolist()
        self.told.append(batch_indices)

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        assert batch_indices == [self.told]
        mine = {
            row: text
            for some in zip(batch_indices[0], predictions, strict=True)
            for row, text in zip(*some, strict=True)
        }
        parts = [mine]
        if trainer.world_size > 1:
            parts = [{}] * trainer.world_size
            torch.distributed.all_gather_object(parts, mine)
        if trainer.is_global_zero:
            found = {row: text for part in parts for row, text in part.items()}
            self.path.write_text("".join(found[row] + "\n" for row in sorted(found)))
            self.path.with_suffix(".json").write_text(json.dumps([sorted(part) for part in parts]))


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    for name, options in (("one", {}), ("two", {"devices": 2, "strategy": "ddp_fork"})):
        with warnings.catch_warnings():
            warnings.simplefilter("error" if name == "one" else "ignore")
            warnings.filterwarnings("ignore", category=FutureWarning)  # Lightning's own use of torch
            warnings.filterwarnings("ignore", message=".*litlogger.*")
            made = datamodule(folder / "store", n=20, predict_from=folder / "text.txt", eval_max_tokens=64)
            trainer = pl.Trainer(**{**QUIET, **options, "callbacks": [InOrder(folder / f"{name}.txt")]})
            trainer.predict(Echo(), made, return_predictions=False)


if __name__ == "__main__":
    main()
