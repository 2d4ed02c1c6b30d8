"""Run `task=fit` quickly in tests: ten pairs, a small model, and stand-ins for the data module and for `Run`."""

import io
import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor

import mtx.experiment.fit as fit_module
from mtx.components.check_and_build import build
from mtx.experiment.fit import fit
from mtx.experiment.run_context import Run
from mtx.progress.progress_log import LOGGER
from mtx.records.plot_data_record import Fertility, RunProfile
from mtx.records.report_record import Report

NUM_TRAIN, NUM_TOKENS = 5, [3, 5, 2, 4, 6]
LEDGER = {"num_pairs": 13, "batched": 10, "dropped_length": 3, "dropped_remainder": 0}
DATA = Report.of(
    {
        "name": "ten pairs",
        "languages": ["en", "de"],
        "num_pairs_raw": 12,
        **{"num_pairs_train": 10, "num_pairs_validation": 1, "num_pairs_test": 0},
        "skipped": {},
        "dropped": {"duplicate": 1},
        **{"source_vocab_size": 9, "target_vocab_size": 9, "joint_vocabulary": True},
        "ids": {"raw": {"train": "raw-1"}, "tokenizer": "tokenizer-1"},
        "built": ["raw-1"],
        **{"num_batches": NUM_TRAIN, "padding_ratio": 0.021, "ledger": LEDGER},
    }
)
FERTILITY = Fertility(tokens_per_word=2.3, tokens_per_char=0.5)
PROFILE = RunProfile(fertility={"source": FERTILITY, "target": FERTILITY}, shapes=())


class Loader:
    """A loader of batches of two pairs with 3, 5, 2, 4 and 6 target tokens; each rank gets its share of the batches."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.mine = list(enumerate(NUM_TOKENS))[rank::world_size]

    def __len__(self) -> int:
        return len(self.mine)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for index, num_tokens in self.mine:
            torch_rows = torch.arange(6).repeat(2, 1)
            mask = torch.zeros(2, 6, dtype=torch.bool)
            mask[0, :num_tokens] = True
            ids = torch.where(mask, torch_rows % 4 + 4, 0)
            source = torch.ones(2, 6, dtype=torch.bool)
            yield {
                "encoder_input_ids": torch_rows % 4 + 4,
                "encoder_attn_mask": source,
                "decoder_input_ids": ids,
                "labels": ids,
                "decoder_attn_mask": mask,
                "row_ids": torch.tensor([2 * index, 2 * index + 1]),
            }


class Data(pl.LightningDataModule):
    def __init__(self, validation: bool = True) -> None:
        super().__init__()
        self.validation = validation

    def facts(self) -> dict[str, Any]:
        special = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "joint_vocabulary": True}
        return {"source_vocab_size": 9, "target_vocab_size": 9, **special, "max_target_tokens": 6}

    def train_dataloader(self) -> Loader:
        assert self.trainer is not None
        return Loader(self.trainer.global_rank, self.trainer.world_size)

    def val_dataloader(self) -> Any:
        return self.train_dataloader() if self.validation else []

    def num_target_bytes(self, row_ids: Tensor, split: str) -> Tensor:
        return torch.full_like(row_ids, 4)

    def split_counts(self, split: str) -> dict[str, int]:
        return {"num_pairs": 10}


class Silent(pl.LightningModule):
    """A user-defined model that logs no metrics."""

    def __init__(self, target_vocab_size: int, width: int = 3) -> None:
        super().__init__()
        self.scores = torch.nn.Embedding(target_vocab_size, width)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.scores(batch["labels"]).pow(2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Scripted(Silent):
    """A model that logs held-out bits per byte 3, 2, 4, 5 and so on; the second validation is the best."""

    def on_validation_epoch_start(self) -> None:
        self.value = {0: 3.0, 2: 2.0, 4: 4.0}.get(self.trainer.global_step, 5.0)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val/bits_per_byte", self.value, batch_size=1)


class FakeRun:
    """A stand-in for `Run` with the attributes and methods that `fit` uses."""

    in_sweep = False
    overrides = ("task=fit", "sampler.max_tokens=64", "trainer.max_steps=6")
    config_sources = ("--config-dir=own",)
    command = Run.command

    def __init__(self, folder: Path, *, validation: bool = True, **groups: Any) -> None:
        model = {"_target_": "mtx.training.reference.transformer.TransformerTranslator", "d_model": 8, "num_heads": 2}
        trainer = {
            "_target_": "pytorch_lightning.Trainer",
            "accelerator": "cpu",
            "max_steps": 6,
            "val_check_interval": 2,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
        }
        csv = {"_target_": "pytorch_lightning.loggers.CSVLogger", "name": "", "version": "log"}
        small = {
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "dim_feedforward": 8,
            "dropout": 0.0,
            "learning_rate": 0.02,
            "warmup_steps": 1,
        }
        self.config: dict[str, Any] = {"model": {**model, **small}, "trainer": trainer, "seed": 3}
        self.config["logger"] = {"csv": csv}
        self.config["budget"] = {"_target_": "mtx.training.callbacks.TrainingBudget"}
        for group, options in groups.items():
            self.config[group] = {**({} if "_target_" in options else self.config[group]), **options}
        self.seed = 3
        self.output_dir = folder
        self.out = io.StringIO()
        self.console = Console(file=self.out, width=200)
        self.datamodule = Data(validation)

    def build(self, group: str, **extra: Any) -> Any:
        return build(self.config, group, **extra)

    def write_report(self, report: Report) -> Path:
        return report.write(self.output_dir)

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output_dir / "report.json").read_text())
        return found


def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Replace the report of a real data module by a constant, and use a temporary working folder; body of a fixture."""
    monkeypatch.setattr(logging.getLogger(LOGGER), "handlers", [])  # left by commands that ran in this process
    monkeypatch.setattr(fit_module, "data_report_and_profile", lambda run: (DATA, PROFILE))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def started(run: FakeRun, **options: Any) -> float | None:
    return fit(run, **options)  # type: ignore[arg-type]


@contextmanager
def restored_sigint() -> Iterator[None]:
    """Restore the handler of Ctrl-C after the block, because Lightning disables it while it shuts down."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted(Scripted):
    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        if self.trainer.global_step == 3:
            raise KeyboardInterrupt
