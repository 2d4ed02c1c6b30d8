"""Runs of a real Trainer on six batches of unequal size, for the tests of callbacks; several ranks as a script.

python small_runs.py FOLDER '{"devices": 2, "accumulate_grad_batches": 2}' CALLBACK...
"""

import json
import os
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as other
import numpy as np
import pytorch_lightning as pl
import torch
import warm_process
from torch import Tensor, nn

import mtx.training.callbacks

Batch = dict[str, Tensor]
LENGTHS = [[3, 5], [2], [7, 1, 4, 6], [1], [2, 2, 2], [8]]  # target tokens of each pair of each batch
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
    "log_every_n_steps": 1,
    "max_epochs": 1,
}


def batch_of(lengths: list[int], seed: int = 0, width: int | None = None) -> Batch:
    """Targets of these lengths with ids drawn by `seed`; each source has one token more than its target."""
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    places = torch.arange(width + 1)
    lengths_ = torch.tensor(lengths)[:, None]
    mask = places[:-1] < lengths_
    ids = [torch.randint(3, 12, mask.shape, generator=generator) * mask for _ in range(2)]
    return {
        "encoder_attn_mask": (places < lengths_ + 1) & (lengths_ > 0),
        "decoder_input_ids": ids[0],
        "labels": ids[1],
        "decoder_attn_mask": mask,
    }


BATCHES = [batch_of(lengths, seed) for seed, lengths in enumerate(LENGTHS)]


def joined(batches: list[Batch]) -> Batch:
    """One batch with all pairs of several, padded to the longest."""
    width = max(batch["labels"].shape[1] for batch in batches)
    pad = nn.functional.pad
    return {
        name: torch.cat([pad(batch[name], (0, width - batch["labels"].shape[1])) for batch in batches])
        for name in BATCHES[0]
    }


class Loader:
    """The batches of a rank; goes on where the Trainer's count of the epoch stands."""

    def __init__(self, trainer: pl.Trainer, batches: list[Batch]) -> None:
        self.trainer = trainer
        self.batches = batches[trainer.global_rank :: trainer.world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        start = self.trainer.fit_loop.epoch_loop.batch_progress.current.completed if self.trainer.training else 0
        yield from self.batches[start:]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The Trainer's count is enough."""


def word_model(package: Any = pl) -> Any:
    """Make the class of a model that predicts each label from the id before it, with what its tests want to know."""

    class Words(package.LightningModule):  # type: ignore[misc]
        def __init__(self, batches: list[Batch] | None = None, dropout: float = 0.0) -> None:
            super().__init__()
            torch.manual_seed(5)
            self.batches = BATCHES if batches is None else batches
            self.embedding = nn.Embedding(12, 6)
            self.dropout = nn.Dropout(dropout)
            self.out = nn.Linear(6, 12)
            self.draws = False
            self.gradients: list[Tensor] = []

        def loss(self, batch: Batch) -> Tensor:
            mask = batch["decoder_attn_mask"]
            scores = self.out(self.dropout(self.embedding(batch["decoder_input_ids"][mask])))
            total = nn.functional.cross_entropy(scores, batch["labels"][mask], reduction="sum")
            return total / max(int(mask.sum()), 1)

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            factor = random.random() + np.random.random() if self.draws else 1.0
            return self.loss(batch) * factor

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            torch.rand(3), random.random(), np.random.random()

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            self.gradients.append(flat_gradient(self))

        def train_dataloader(self) -> Loader:
            return Loader(self.trainer, self.batches)

        def val_dataloader(self) -> Any:
            return Loader(self.trainer, self.batches)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    return Words


def flat_gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()


def flat_weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def gradient_of(model: Any, batches: list[Batch]) -> Tensor:
    """The gradient of one big batch, without any Trainer."""
    model.zero_grad()
    model.loss(joined(batches)).backward()
    gradient = flat_gradient(model)
    model.zero_grad()
    return gradient


def trainer(package: Any = pl, **options: Any) -> Any:
    return package.Trainer(**{**QUIET, **options})


PACKAGES = [pl, other]


class Written(pl.Callback):
    """Writes gradients, weights and metrics of rank 0 when training ends, and keeps a checkpoint behind a batch."""

    def __init__(self, folder: Path, save_at: int | None) -> None:
        self.folder, self.save_at = folder, save_at

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.save_at:
            trainer.save_checkpoint(self.folder / "mid.ckpt")

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            found = {"gradients": pl_module.gradients, "weights": flat_weights(pl_module), "metrics": metrics}
            torch.save(found, self.folder / "found.pt")


def in_ranks(folder: Path, *callbacks: str, **options: Any) -> dict[str, Any]:
    """Run this file with these options, and return what rank 0 wrote."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = warm_process.run(__file__, folder, json.dumps(options), *callbacks, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = torch.load(folder / "found.pt")
    return found


def named(callback: str) -> tuple[str, str, str]:
    """Take a callback's name and its arguments apart: `TrainingBudget:{"steps": 2}`."""
    return callback.partition(":")


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    ckpt, save_at = options.pop("ckpt", None), options.pop("save_at", None)
    model = word_model()(dropout=options.pop("dropout", 0.0))
    callbacks = [
        getattr(mtx.training.callbacks, name)(**json.loads(given or "{}"))
        for name, _, given in map(named, sys.argv[3:])
    ]
    run = trainer(callbacks=[*callbacks, Written(folder, save_at)], strategy="ddp_fork", **options)
    pl.seed_everything(7, verbose=False)
    run.fit(model, ckpt_path=ckpt)


if __name__ == "__main__":
    main()
