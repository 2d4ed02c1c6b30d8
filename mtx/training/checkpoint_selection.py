"""Choose the checkpoint that `ckpt=` names, and check that its weights fit the model of this run."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.model_helpers import is_overridden

from mtx.components.identity import digest
from mtx.errors import ConfigError
from mtx.infra.dal.archive_errors import is_zip
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason
from mtx.training.checkpoint_content import CHECKPOINT_PLACE, damage_of, unsafe_names

Config = Mapping[str, Any]

STATE_KEYS = ("pytorch-lightning_version", "optimizer_states")  # without which Lightning cannot resume a training
RUN_KEY_GROUPS = ("downloader", "normalise", "filter", "tokenizer", "sampler", "datamodule", "model", "seed")
MAKING_METHODS = (
    "setup",
    "configure_model",
    "on_load_checkpoint",
    "load_state_dict",
)  # that change weights
RUN_KEY_FILE = "run_key.txt"  # beside the checkpoints: a hash of the config keys that a resumed run must share


class UnsafeContentError(ConfigError):
    """A checkpoint contains Python objects, which are read only if the user trusts the file."""


def checkpoint_path(ckpt: str | None, *, config: Config, output_dir: Path, say: Callable[[str], None]) -> Path | None:
    """Return the checkpoint file that `ckpt` names; None if training starts from the beginning.

    Args:
        ckpt: the path of a file; `last` for the newest complete checkpoint of a run with the same run key; or None.
        config: the config of this run, from which the run key is computed.
        output_dir: the run folder; `last` searches this folder and the run folders beside it.
        say: called with a message if `ckpt` is `last`, for each damaged checkpoint that is passed over, and if no
            checkpoint is found. Training then starts from the beginning. This is no error, because the first run of a
            command with ckpt=last finds no checkpoint.

    Raises ConfigError if `ckpt` is the path of a file that does not exist.
    """
    if ckpt is None:
        return None
    if ckpt != "last":
        path = expanded_path(ckpt)
        if not path.is_file():
            raise ConfigError(
                f"ckpt must be a checkpoint file, `last`, or null, but there is no file {str(path) if ckpt else ''!r}. "
                f"{CHECKPOINT_PLACE}"
            )
        return path
    found = [
        path for path in _earlier_checkpoints(output_dir) if (path.parent / RUN_KEY_FILE).read_text() == run_key(config)
    ]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if not (damage := damage_of(path)):
            return path
        rank_zero_only(say)(f"ckpt=last: {path} is damaged and is passed over: {damage}")
    rank_zero_only(say)(
        f"ckpt=last: {output_dir.parent.parent} has no {'complete ' if found else ''}checkpoint of an earlier run with "
        "the same data and model; training starts from the beginning"
    )
    return None


def run_key(config: Config) -> str:
    """Return a hash of the config groups that a resumed run must share; steps, device and logger may differ."""
    scorers = (
        {"score": config["score"]} if config.get("score") else {}
    )  # absent without scorers, as in earlier versions
    return digest({name: config.get(name) for name in RUN_KEY_GROUPS} | scorers)


def write_run_key(config: Config, output_dir: Path) -> None:
    """Write the hash of the run's config to the checkpoint folder of the run."""
    folder = output_dir / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / RUN_KEY_FILE) as file:
        file.write(run_key(config).encode())


def weight_shapes(path: Path, *, trusted: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight in a checkpoint, after all checksums of the file were compared.

    The function reads the whole file, and needs no model, so that it can run before data is prepared.

    By default, only tensors and plain values are read, and no class or function named in the file is imported.
    If `trusted` is true, the file is unpickled without restriction, which may run any code.

    Raises ConfigError if the file is damaged, is no checkpoint, or holds other Python objects.
    """
    if not is_zip(path):
        raise ConfigError(_unreadable_message(path, "it is no zip archive, which torch.save writes since torch 1.6"))
    if damage := damage_of(path):
        raise ConfigError(_unreadable_message(path, damage))
    try:
        weights = torch.load(path, map_location="cpu", weights_only=not trusted, mmap=True)["state_dict"]
        shapes = _shapes(weights)
    except pickle.UnpicklingError as error:
        raise UnsafeContentError(_unsafe_content_message(path)) from error
    except Exception as error:  # torch.load may raise any exception for a damaged file
        raise ConfigError(_unreadable_message(path, _reason(error))) from error
    if weights and not shapes:
        raise ConfigError(_unreadable_message(path, "its state_dict holds no tensors"))
    return shapes


def check_shapes(path: Path, there: Mapping[str, tuple[int, ...]], model: pl.LightningModule) -> None:
    """Check that training can resume from a checkpoint: it has the model's weights, and the state of a training.

    Names and shapes are not compared if the model's own code makes or loads the weights. Names are not compared if
    the model does not load strictly.

    Args:
        path: the checkpoint.
        there: the shapes of its weights.
        model: the model that is to be trained.

    Raises:
        ConfigError: a weight is missing, is not the model's, or has another shape, or the checkpoint has no state of
            an optimizer.
    """
    is_own = _has_own_loading(model)
    shapes = {} if is_own else _shapes(model.state_dict())
    other = [
        f"{name} has shape {there[name]} in the checkpoint and {shape} in this model"
        for name, shape in shapes.items()
        if name in there and there[name] != shape
    ]
    if model.strict_loading and not is_own:
        other += [f"it has no weight {name}" for name in shapes if name not in there]
        other += [f"this model has no weight {name}" for name in there if name not in shapes]
    if other:
        raise ConfigError(
            f"ckpt={path} was written by another model or with another vocabulary: {'; '.join(other[:3])}. Use the "
            "tokenizer and model settings of the run that wrote the checkpoint, or set ckpt=null to train from the "
            "beginning"
        )
    if (missing := missing_state(path)) is not None:
        raise ConfigError(
            f"ckpt={path} cannot resume a training: it holds weights without {missing}, as a ModelCheckpoint with "
            "save_weights_only=true writes them. Choose a checkpoint of task=fit, or set ckpt=null to train from the "
            "beginning"
        )


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a state; a module may add other values to it."""
    return {name: tuple(value.shape) for name, value in weights.items() if isinstance(value, torch.Tensor)}


def _has_own_loading(model: pl.LightningModule) -> bool:
    """Return whether code that is not mtx's may still make, rename or resize weights before they are loaded."""
    of_model = any(
        is_overridden(name, model) and getattr(type(model), name).__module__.partition(".")[0] != "mtx"
        for name in MAKING_METHODS
    )
    return of_model or any(
        module._load_state_dict_pre_hooks
        or module._load_state_dict_post_hooks
        or type(module)._load_from_state_dict is not torch.nn.Module._load_from_state_dict
        for module in model.modules()
    )


def missing_state(path: Path) -> str | None:
    """Return the first key that Lightning needs to resume, and that a checkpoint lacks; None if it has all."""
    with suppress(Exception):  # other Python objects, of an author whom the user trusts
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return next((key for key in STATE_KEYS if key not in content), None)
    return None


def _reason(error: Exception) -> str:
    """Return the reason of an error; for a key that the file lacks, a sentence."""
    if isinstance(error, KeyError):
        return f"it holds no {error.args[0]} of a model"
    return library_reason(error, library="torch")


def _unreadable_message(path: Path, reason: str) -> str:
    return (
        f"ckpt={path} cannot be read as a checkpoint: {reason}. Choose another file, such as best.ckpt of the same "
        "run, or set ckpt=null to train from the beginning"
    )


def _unsafe_content_message(path: Path) -> str:
    """Return the error message for a checkpoint that holds other Python objects than tensors and plain values."""
    return (
        f"ckpt={path} holds Python objects other than tensors and plain values{unsafe_names(path)}. Reading such "
        "objects may run any code, so the file was not read. Keep such objects out of save_hyperparameters() and out "
        "of the state of callbacks. If you trust the author of the file, set task.trust_ckpt=true"
    )


def _earlier_checkpoints(output_dir: Path) -> Iterator[Path]:
    """Yield `last.ckpt` and `best.ckpt` of this and the neighbouring run folders, if a run key lies beside them.

    Run folders are `outputs/DATE/TIME` for single runs and `multirun/TIME/JOB` for jobs of a sweep.
    """
    folders = [output_dir, *output_dir.parent.parent.glob("*/*")]
    for folder in folders:
        for path in (folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"):
            if path.is_file() and (path.parent / RUN_KEY_FILE).is_file():
                yield path
