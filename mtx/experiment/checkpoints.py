"""Which checkpoint a run goes on from: only one of the same data and model, wherever it was written."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from mtx.errors import ConfigError
from mtx.experiment.run import Run
from mtx.identity import digest
from mtx.infra.dal.base import atomic_file

SAME_WHEN_RESUMED = ("downloader", "filter", "tokenizer", "sampler", "datamodule", "model", "seed")
RUN_KEY_FILE = "run_key.txt"  # beside the checkpoints: which runs may go on from them
MAX_NAMES = 3  # of a file's objects that a message tells


def checkpoint_path(run: Run, ckpt: str | None) -> Path | None:
    """Return the file that `ckpt` means. Raises ConfigError where it names a file that is not there."""
    if ckpt is None:
        return None
    if ckpt != "last":
        path = Path(ckpt).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"ckpt is a checkpoint file, `last`, or null, but there is no file {path}. "
                "Runs keep theirs in OUTPUT_FOLDER/checkpoints/last.ckpt"
            )
        return path
    found = [path for path in _earlier(run) if (path.parent / RUN_KEY_FILE).read_text() == run_key(run)]
    if not found:
        _tell_of_no_last(run)
        return None
    return max(found, key=lambda path: path.stat().st_mtime)


def run_key(run: Run) -> str:
    """Return a hash of what has to be the same when a run goes on; steps, device and logger may change."""
    return digest({name: run.config.get(name) for name in SAME_WHEN_RESUMED})


def write_run_key(run: Run) -> None:
    """Write the run's key to where its checkpoints will be."""
    folder = run.output_dir / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / RUN_KEY_FILE) as file:
        file.write(run_key(run).encode())


def check_fits(path: Path, model: pl.LightningModule, *, trusted: bool = False) -> None:
    """Raise ConfigError where a checkpoint cannot be read, or where its weights have other shapes than the model's.

    Only tensors and plain values are read; what it says of classes and functions is never looked up, unless `trusted`:
    then it is read as the pickle that it is, which may run any code.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=not trusted, mmap=True)["state_dict"]
        there = {name: tuple(weights[name].shape) for name in model.state_dict() if name in weights}
    except pickle.UnpicklingError as error:
        raise ConfigError(_holds_objects(path)) from error
    except Exception as error:  # torch's reader of a damaged file fails in any way
        raise ConfigError(f"ckpt={path} is no checkpoint that can be read: {error}") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    other = [
        f"{name} is {there[name]} there and {shape} here"
        for name, shape in shapes.items()
        if name in there and there[name] != shape
    ]
    if other:
        raise ConfigError(
            f"ckpt={path} is of another model or another vocabulary: {'; '.join(other[:3])}. "
            "Use the tokenizer and model settings of the run that wrote it, or ckpt=null to start from the beginning"
        )


def _holds_objects(path: Path) -> str:
    """Say that a checkpoint holds more than weights, and what; found by reading its opcodes, not by running them."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a file that is damaged, too
        names = []
    which = f" ({', '.join(sorted(names)[:MAX_NAMES])})" if names else ""
    return (
        f"ckpt={path} holds Python objects beside tensors and plain values{which}, and to read those runs code that "
        "the file chooses. It was not read. Keep such objects out of save_hyperparameters() and of the state of "
        "callbacks; or, where you know who wrote this file and trust them, set task.trust_ckpt=true"
    )


def _earlier(run: Run) -> Iterator[Path]:
    """Find the last checkpoints of this run's folder and of those beside it: outputs/DATE/TIME, multirun/TIME/JOB."""
    folders = [run.output_dir, *run.output_dir.parent.parent.glob("*/*")]
    for folder in folders:
        path = folder / "checkpoints" / "last.ckpt"
        if path.is_file() and (path.parent / RUN_KEY_FILE).is_file():
            yield path


@rank_zero_only
def _tell_of_no_last(run: Run) -> None:
    """Say that training starts anew: no error, as a job that is always started with ckpt=last has none at first."""
    run.console.print(
        f"ckpt=last: no earlier run of this data and model has left a checkpoint in {run.output_dir.parent.parent}; "
        "training starts from the beginning",
        soft_wrap=True,
    )
