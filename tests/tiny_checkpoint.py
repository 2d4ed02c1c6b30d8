"""A checkpoint of the reference model after one step on a few pairs, as a Trainer writes it."""

import atexit
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from mtx.training.datamodule import TranslationDataModule
from mtx.training.reference.transformer import TransformerTranslator

sys.path.append(str(Path(__file__).parent / "training"))

import rank_runs  # beside the tests of mtx.training

NAMES = (
    *("source_vocab_size", "target_vocab_size", "joint_vocabulary", "pad_id", "bos_id", "eos_id"),
    "forced_target_tokens",
)
SMALL: dict[str, Any] = {
    **{"d_model": 8, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 8},
    "max_positions": 64,
}


def trained(folder: Path, **options: Any) -> tuple[Path, TransformerTranslator, TranslationDataModule]:
    """Train for one step in a folder, and return the checkpoint, the model and the data module."""
    dm = rank_runs.datamodule(
        folder / "store", n=20, validation=6, max_source_tokens=40, max_target_tokens=40, **options
    )
    dm.prepare_data()
    dm.setup("fit")
    return fitted(dm, folder / "model.ckpt")


def fitted(dm: TranslationDataModule, path: Path) -> tuple[Path, TransformerTranslator, TranslationDataModule]:
    """Train for one step on prepared data, and return the checkpoint at `path`, the model and the data module."""
    facts = dm.facts()
    torch.manual_seed(0)
    model = TransformerTranslator(**{name: facts[name] for name in NAMES}, **SMALL)
    trainer = pl.Trainer(**{**rank_runs.QUIET, "max_epochs": None, "max_steps": 1, "limit_val_batches": 0})  # type: ignore[arg-type]
    trainer.fit(model, datamodule=dm)
    trainer.save_checkpoint(path)
    return path, model.eval(), dm


@cache
def shared() -> tuple[Path, TransformerTranslator, TranslationDataModule]:
    """Return what `trained` returns, once for each process; tests leave it unchanged."""
    folder = Path(tempfile.mkdtemp(prefix="mtx-checkpoint-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return trained(folder)
