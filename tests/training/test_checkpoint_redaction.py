"""No checkpoint and no logger gets a secret of a model, however the model keeps it."""

import argparse
import pickle
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning import strategies
from pytorch_lightning.strategies import Strategy

from mtx.training.atomic_checkpoint_io import write_atomically
from mtx.training.checkpoint_redaction import hidden, redact_checkpoints, redact_for_loggers

SECRET = "s3cr3t-of-a-service"
CONFIG = {"model": {"api_key": SECRET, "width": [8, 9]}}


class Model(pl.LightningModule):
    def __init__(self, api_key: str, address: str, width: tuple[int, int], args: argparse.Namespace) -> None:
        super().__init__()
        self.save_hyperparameters()


def model() -> Model:
    return Model(SECRET, f"host/{SECRET}", (8, 9), argparse.Namespace(password="unknown to the config", beam=2))


def test_loggers_get_no_secret() -> None:
    made = model()
    redact_for_loggers(made, CONFIG)
    shown: Any = made.hparams_initial
    assert (shown.api_key, shown.address, shown.width) == ("***", "host/***", (8, 9))
    assert vars(shown.args) == {"password": "***", "beam": 2}
    assert made.hparams["api_key"] == SECRET
    assert made.hparams["args"].password == "unknown to the config"


@pytest.mark.parametrize("weights_only", [False, True])
def test_no_checkpoint_has_a_secret(weights_only: bool, tmp_path: Path) -> None:
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, default_root_dir=str(tmp_path))
    write_atomically(trainer)
    redact_checkpoints(trainer, CONFIG)
    made = model()
    trainer.strategy.connect(made)
    trainer.strategy._lightning_module = made
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=weights_only)
    stored = torch.load(tmp_path / "a.ckpt", weights_only=False)["hyper_parameters"]
    assert (stored["api_key"], stored["address"], stored["width"]) == ("***", "host/***", (8, 9))
    assert vars(stored["args"]) == {"password": "***", "beam": 2}
    assert made.hparams["api_key"] == SECRET


@pytest.mark.parametrize("name", ["FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy"])
def test_a_strategy_that_writes_by_itself_gets_no_secret(name: str, tmp_path: Path) -> None:
    written: dict[str, Any] = {}

    def save(self: Strategy, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        written.update(checkpoint)

    parent = getattr(strategies, name)
    made = type(name, (parent,), {"__init__": lambda self: None, "save_checkpoint": save})()
    trainer = SimpleNamespace(strategy=made)
    redact_checkpoints(trainer, CONFIG)  # type: ignore[arg-type]  # a stand-in
    content = {"hyper_parameters": {"api_key": SECRET}, "datamodule_hyper_parameters": {"a": [SECRET]}, "epoch": 1}
    trainer.strategy.save_checkpoint(content, tmp_path)
    assert written == {
        "hyper_parameters": {"api_key": "***"},
        "datamodule_hyper_parameters": {"a": ["***"]},
        "epoch": 1,
    }
    assert content["hyper_parameters"] == {"api_key": SECRET}
    written.clear()
    trainer.strategy.save_checkpoint({"state_dict": {}}, tmp_path)
    assert written == {"state_dict": {}}


@dataclass(frozen=True)
class Options:
    token: str
    beam: int = 4


def test_each_kind_of_value_is_searched_and_values_without_secrets_stay() -> None:
    found = hidden({"a": Options("mine"), "b": Options, "c": (Options("***"),), "d": [{"passwords": 1}]}, {})
    assert found == {"a": Options("***"), "b": Options, "c": (Options("***"),), "d": [{"passwords": 1}]}
    plain = {"a": (1, "b"), "c": torch.Size([2]), "d": range(3), "e": argparse.Namespace(f="g")}
    assert hidden(plain, {}) is plain
    of_omegaconf = OmegaConf.create({"missing": "???", "inner": {"password": "mine"}, "list": [{"hf_token": "mine"}]})
    assert hidden(of_omegaconf, {}) == {"inner": {"password": "***"}, "list": [{"hf_token": "***"}]}


def test_a_strategy_that_spawns_processes_can_send_it(tmp_path: Path) -> None:
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, default_root_dir=str(tmp_path))
    redact_checkpoints(trainer, CONFIG)
    sent = pickle.loads(pickle.dumps(trainer.strategy))
    sent.save_checkpoint({"hyper_parameters": {"a": SECRET}}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt")["hyper_parameters"] == {"a": "***"}
