"""Runs of the real Trainer that write down what every rank was served, for the tests that read it.

As a script it does one run after another, each as a JSON object says, so that processes can be started, and killed:

    python rank_runs.py OUTPUT_FOLDER '[{"name": "two", "trainer": {"devices": 2, "strategy": "ddp_fork"}}]'
"""

import hashlib
import importlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mtx.training  # noqa: F401  # first, so that Lightning does not import transformers in each rank: 3 s

# isort: split
import pyarrow as pa
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.data.filter.none import NoFilter
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import PAIR_SCHEMA, Downloader, SourceInfo
from mtx.training.checkpoint_callback import LastAndBestCheckpoint
from mtx.training.datamodule import TranslationDataModule

Event = dict[str, Any]
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "max_epochs": 2,
}


@dataclass(frozen=True, kw_only=True)
class Counted(Downloader):
    """As many pairs as asked for in each split, of lengths that differ. `mark` makes another corpus of that size."""

    n: int
    validation: int = 0
    test: int = 0
    mark: str = ""

    def info(self) -> SourceInfo:
        sizes = {"train": self.n, "validation": self.validation, "test": self.test}
        splits = tuple(split for split, size in sizes.items() if size)
        return SourceInfo("counted", ("en", "de"), "1", {**sizes, "mark": self.mark}, splits)

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        size = {"train": self.n, "validation": self.validation, "test": self.test}[split]
        pairs = [{"src": f"{split}{self.mark} {i}", "tgt": "z" * (i * 7 % 23) + str(i)} for i in range(size)]
        yield from pa.Table.from_pylist(pairs, schema=PAIR_SCHEMA).to_batches()


def datamodule(
    root: Path,
    *,
    n: int = 50,
    validation: int = 0,
    test: int = 0,
    mark: str = "",
    batch_size: int = 4,
    max_tokens: int | None = None,
    **options: Any,
) -> TranslationDataModule:
    """A data module over `Counted`; with `max_tokens` batches are cut by a token budget."""
    sampler = RandomPlanner(batch_size=batch_size) if max_tokens is None else TokenBudgetPlanner(max_tokens=max_tokens)
    parts: dict[str, Any] = {
        "storage": Store(root=root, objects=SQLiteObjectLayer, files=ArrowFileLayer),
        "downloader": Counted(n=n, validation=validation, test=test, mark=mark),
        "filter": NoFilter(),
        "tokenizer": ByteTokenization(),
        "sampler": sampler,
        "validation": None,
        "test": None,
        "eval_max_tokens": 128,
    }
    return TranslationDataModule(**{**parts, **options})


class Recorder(pl.LightningModule):
    """A small model whose weights depend on every batch and on their order. Notes each batch, in memory or in a file.

    Args:
        folder: where each rank writes its events, line by line; None: they are kept in `events` alone.
        read_length: ask the Trainer how many steps there will be, as models with a schedule do.
    """

    def __init__(self, folder: Path | None = None, *, read_length: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.read_length = read_length
        self.events: list[Event] = []
        self.vectors = torch.nn.Embedding(264, 4)
        torch.nn.init.constant_(self.vectors.weight, 0.5)

    def note(self, **event: Any) -> None:
        self.events.append(event)
        if self.folder is not None:
            with (self.folder / f"rank{self.trainer.global_rank}.jsonl").open("a") as file:
                file.write(json.dumps(event) + "\n")

    def served(self, name: str, batch: dict[str, Tensor]) -> None:
        content = hashlib.sha256(b"".join(batch[key].numpy().tobytes() for key in sorted(batch))).hexdigest()
        place = {"epoch": self.current_epoch, "step": self.global_step}
        self.note(on=name, **place, rows=batch["row_ids"].tolist(), content=content)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        self.served("train", batch)
        looked_up = self.vectors(batch["encoder_input_ids"]).mean(dim=(1, 2))
        loss: Tensor = (looked_up - batch["labels"].float().mean(dim=1) / 100).square().mean()
        return loss

    def on_validation_epoch_start(self) -> None:
        self.note(on="look", epoch=self.current_epoch, step=self.global_step)

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        self.served("validation", batch)

    def test_step(self, batch: dict[str, Tensor], index: int) -> None:
        self.served("test", batch)

    def predict_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        self.served("predict", batch)
        return batch["row_ids"]

    def on_fit_end(self) -> None:
        weights = self.vectors.weight.detach().numpy().tobytes()
        self.note(on="end", step=self.global_step, weights=hashlib.sha256(weights).hexdigest())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.read_length:
            self.note(on="length", steps=self.trainer.estimated_stepping_batches)
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class StopAt(pl.Callback):
    """Writes a checkpoint behind a training batch, counted over epochs from 1, or in a look, and ends the run.

    Args:
        path: of the checkpoint; empty: none is written.
        batch: behind which training batch.
        in_step: in the work on which training batch.
        in_look: in which look at held-out text, from 1, behind its first batch.
        kill: end by a signal that nothing can catch, rather than by an error.
        rank: which rank ends; None: all do.
    """

    def __init__(
        self,
        path: str,
        *,
        batch: int = 0,
        in_step: int = 0,
        in_look: int = 0,
        kill: bool = False,
        rank: int | None = None,
    ) -> None:
        self.path, self.kill, self.rank = path, kill, rank
        self.batch, self.in_step, self.in_look = batch, in_step, in_look
        self.num_looks = 0

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.in_step:
            self.stop(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            self.stop(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *arguments: Any, **_: Any) -> None:
        first = arguments[3] == 0
        self.num_looks += first
        if first and self.num_looks == self.in_look:
            self.stop(trainer)

    def stop(self, trainer: pl.Trainer) -> None:
        if self.path:
            trainer.save_checkpoint(self.path)
        if self.rank is not None and trainer.global_rank != self.rank:
            return
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise InterruptedError


def note_errors(data: TranslationDataModule, model: Recorder) -> None:
    """Let each rank note what it is told where it asks for a loader; a callback of its own end is not called there."""

    def noting(ask: Callable[[], Any]) -> Callable[[], Any]:
        def asked() -> Any:
            try:
                return ask()
            except Exception as error:
                model.note(on="error", kind=type(error).__name__, told=str(error))
                raise

        return asked

    for name in ("train_dataloader", "val_dataloader"):
        setattr(data, name, noting(getattr(data, name)))


def fit(
    data: TranslationDataModule,
    *,
    stop: StopAt | None = None,
    ckpt: Path | None = None,
    read_length: bool = False,
    **options: Any,
) -> Recorder:
    """Train in this process and return what the model noted."""
    model = Recorder(read_length=read_length)
    trainer = pl.Trainer(**{**QUIET, "callbacks": [stop] if stop else [], **options})
    try:
        trainer.fit(model, data, ckpt_path=ckpt)
    except InterruptedError:
        assert stop is not None
    return model


def launch(
    folder: Path, *runs: dict[str, Any], fails: bool = False, timeout_s: int = 240
) -> dict[str, list[list[Event]]]:
    """Do `runs` in a process of their own and return the events of each rank of each run, by name.

    Raises TimeoutExpired where ranks wait for each other, and AssertionError with its output where the process does
    not end as `fails` says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Not imported above: what this module imports counts as code of `Counted`, and ranks that Lightning starts lack it.
    warm_process = importlib.import_module("warm_process")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = warm_process.run(__file__, folder, json.dumps(runs), env=environment, timeout=timeout_s)
    assert (done.returncode != 0) == fails, f"exit code {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}"
    return {run["name"]: events(folder / run["name"]) for run in runs}


def events(folder: Path) -> list[list[Event]]:
    """Read what each rank of a run noted."""
    files = sorted(folder.glob("rank*.jsonl"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def rows(ranks: list[list[Event]], on: str, epoch: int | None = None) -> list[int]:
    """Return the rows that all ranks were served, ascending."""
    found = (event for rank in ranks for event in rank if event["on"] == on)
    return sorted(row for event in found if epoch in (None, event["epoch"]) for row in event["rows"])


def do(folder: Path, run: dict[str, Any]) -> None:
    """Do one run: `name`, `do`, and the options of the data module, the Trainer and `StopAt`."""
    mine = folder / run["name"]
    mine.mkdir(exist_ok=True)
    callbacks: list[pl.Callback] = [StopAt(**run["stop"])] if "stop" in run else []
    if "keep" in run:
        callbacks.append(LastAndBestCheckpoint(Path(run["keep"])))
    if "lightning_keep" in run:
        options = {"every_n_train_steps": 1, "save_last": True, "save_top_k": 1}
        callbacks.append(ModelCheckpoint(run["lightning_keep"], **options))
    data = datamodule(Path(run.get("store", folder / "store")), **run.get("data", {}))
    model = Recorder(mine, read_length=run.get("read_length", False))
    if run.get("raises"):
        note_errors(data, model)
    trainer = pl.Trainer(
        **{
            **QUIET,
            "callbacks": callbacks,
            "enable_checkpointing": "keep" in run or "lightning_keep" in run,
            **run["trainer"],
        }
    )
    loop = getattr(trainer, run.get("do", "fit"))
    try:
        loop(model, datamodule=data, ckpt_path=run.get("ckpt"))
    except Exception as error:
        if run.get("raises", "nothing") not in str(error):
            raise


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    folder, runs = Path(sys.argv[1]), json.loads(sys.argv[2])
    for run in runs:
        do(folder, run)


if __name__ == "__main__":
    main()
