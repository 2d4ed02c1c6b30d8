"""Checkpoints from which a model cannot resume are refused before the training, in one line."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mtx.errors import ConfigError
from mtx.training.checkpoint_selection import check_shapes, weight_shapes

STATE: dict[str, Any] = {"pytorch-lightning_version": "2.6.6", "optimizer_states": [], "epoch": 0, "global_step": 3}
OWN = {"layer.weight": torch.zeros(2, 3), "layer.bias": torch.zeros(2)}


class Small(pl.LightningModule):
    def __init__(self, *, strict: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.strict_loading = strict


class OwnLoading(Small):
    """Renames the weights of older checkpoints."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = OWN


def check(folder: Path, model: pl.LightningModule, weights: dict[str, Tensor], **state: Any) -> None:
    path = folder / "a.ckpt"
    torch.save({"state_dict": weights, **state}, path)
    check_shapes(path, weight_shapes(path), model)


ADVICE = "Use the tokenizer and model settings of the run that wrote the checkpoint, or set ckpt=null"
OTHERS = {
    "other names": (
        {"encoder.weight": torch.zeros(2)},
        r"it has no weight layer.weight; it has no weight layer.b",
    ),
    "one name less": (
        {"layer.weight": OWN["layer.weight"]},
        r"another vocabulary: it has no weight layer.bias. Use",
    ),
    "one name more": (
        {**OWN, "head.bias": torch.zeros(1)},
        r"another vocabulary: this model has no weight head.b",
    ),
    "a prefix": ({f"model.{name}": value for name, value in OWN.items()}, r"it has no weight layer.weight"),
    "another shape": (
        {**OWN, "layer.bias": torch.zeros(4)},
        r"layer.bias has shape \(4,\) in the checkpoint and",
    ),
    "nothing": ({}, r"it has no weight layer.weight"),
}


@pytest.mark.parametrize(("weights", "told"), OTHERS.values(), ids=OTHERS)
def test_weights_of_another_model_are_named(weights: dict[str, Tensor], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        check(tmp_path, Small(), weights, **STATE)
    assert ADVICE in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["optimizer_states", "pytorch-lightning_version"])
def test_weights_without_the_state_of_a_training_are_told(missing: str, tmp_path: Path) -> None:
    state = {key: value for key, value in STATE.items() if key != missing}
    with pytest.raises(ConfigError, match=f"cannot resume a training: it holds weights without {missing}, as a Model"):
        check(tmp_path, Small(), OWN, **state)


@pytest.mark.parametrize("model", [Small(strict=False), OwnLoading()], ids=["not strict", "own loading"])
def test_a_model_that_takes_other_names_decides_itself(model: pl.LightningModule, tmp_path: Path) -> None:
    check(tmp_path, model, {"older.weight": torch.zeros(2)}, **STATE)


def test_its_own_checkpoint_is_taken(tmp_path: Path) -> None:
    check(tmp_path, Small(), OWN, **STATE)
