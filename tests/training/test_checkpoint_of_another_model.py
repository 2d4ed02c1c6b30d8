"""Checkpoints from which a model cannot resume are refused before the training, in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from mtx.errors import ConfigError
from mtx.training.checkpoint_selection import check_shapes, weight_shapes
from mtx.training.reference.transformer import TransformerTranslator

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


class LateLayers(pl.LightningModule):
    """Makes its layer in a method that Lightning calls before it loads a checkpoint."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.outputs = outputs

    def setup(self, stage: str) -> None:
        self.layer = nn.Linear(3, self.outputs)


class Resized(Small):
    """Fits the rows of an older checkpoint to its own vocabulary."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {name: value[:2] for name, value in checkpoint["state_dict"].items()}


class RenamingLayer(nn.Linear):
    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}kernel")
        super()._load_from_state_dict(state_dict, prefix, *others)


class Counting(nn.Linear):
    """Adds a value to its state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"steps": 3}


def small_with(layer: nn.Module) -> Small:
    model = Small()
    model.layer = layer
    return model


def renaming_by_hook() -> Small:
    model = Small()

    def rename(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")

    model.layer.register_load_state_dict_pre_hook(rename)
    return model


OLDER = {"layer.kernel": OWN["layer.weight"], "layer.bias": OWN["layer.bias"]}
LONGER = {"layer.weight": torch.zeros(4, 3), "layer.bias": torch.zeros(4)}
LOADED = {
    "layers made in setup": (LateLayers, OWN),
    "rows cut by the model": (Resized, LONGER),
    "names changed by a layer": (lambda: small_with(RenamingLayer(3, 2)), OLDER),
    "names changed by a hook": (renaming_by_hook, OLDER),
    "a layer whose size comes with the first batch": (lambda: small_with(nn.LazyLinear(2)), OWN),
    "a state that is no tensor": (lambda: small_with(Counting(3, 2)), {**OWN, "layer._extra_state": {"steps": 3}}),
}


@pytest.mark.parametrize(("make", "weights"), LOADED.values(), ids=LOADED)
def test_a_checkpoint_that_loads_is_taken(
    make: Callable[[], pl.LightningModule], weights: dict[str, Any], tmp_path: Path
) -> None:
    model = make()
    check(tmp_path, model, weights, **STATE)
    content: dict[str, Any] = {"state_dict": dict(weights)}
    model.setup("fit")  # these calls, in this order, are those of Lightning
    model.on_load_checkpoint(content)
    model.load_state_dict(content["state_dict"])


def test_the_setup_of_the_reference_model_makes_no_weights(tmp_path: Path) -> None:
    sizes = {"d_model": 8, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 8}
    model = TransformerTranslator(
        source_vocab_size=5, target_vocab_size=5, pad_id=0, bos_id=1, eos_id=2, joint_vocabulary=True, **sizes
    )
    with pytest.raises(ConfigError, match=r"it has no weight network\."):
        check(tmp_path, model, OWN, **STATE)


def check(folder: Path, model: pl.LightningModule, weights: dict[str, Any], **state: Any) -> None:
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
