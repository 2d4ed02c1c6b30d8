"""Read a checkpoint without Lightning: check its bytes, and read only tensors and plain values from it."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from mtx import __version__
from mtx.errors import ConfigError
from mtx.infra.dal.archive_errors import ARCHIVE_ERRORS
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){1,2}((a|b|rc|\.dev|\.post)\d{1,4})?")  # as mtx writes its own
MAX_NAMES = 3  # names of unsafe objects that an error message lists
CHECKPOINT_PLACE = "Each training run writes its checkpoint to RUN_FOLDER/checkpoints/last.ckpt"


def existing_checkpoint(ckpt: str | None, *, task: str) -> Path:
    """Return the path of the checkpoint of a task that needs one. Raises ConfigError without such a file."""
    if ckpt is None:
        raise ConfigError(f"task={task} needs a checkpoint, but ckpt is null. Set ckpt=FILE. {CHECKPOINT_PLACE}")
    path = expanded_path(ckpt)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(
            f"ckpt must be a checkpoint file for task={task}, but {path} {what}. Set ckpt=FILE. {CHECKPOINT_PLACE}"
        )
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint: tensors on the CPU, mapped into memory, and plain values.

    All checksums of the file are compared. No class or function that is named in the file is imported.

    Raises ConfigError if the file is damaged, is no checkpoint, or holds other Python objects.
    """
    if damage := damage_of(path):
        raise ConfigError(_not_read_message(path, damage))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"ckpt={path} holds Python objects other than tensors and plain values{unsafe_names(path)}. Reading such "
            "objects may run any code, so the file was not read. Set ckpt= to a checkpoint of task=fit"
        ) from error
    except Exception as error:  # torch.load may raise any exception for a damaged file
        raise ConfigError(_not_read_message(path, library_reason(error, library="torch"))) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise ConfigError(_not_read_message(path, "it holds no state_dict of a model"))
    return content


def unfit_values_advice(
    written_by: object, otherwise: str = "Set ckpt= to a checkpoint of task=fit that is unchanged"
) -> str:
    """Return what to do if a checkpoint has values that this version cannot use: take the version that wrote it.

    Args:
        written_by: the version that the checkpoint names, as anyone may have written it.
        otherwise: what to do if the checkpoint names no other version.
    """
    if isinstance(written_by, str) and VERSION.fullmatch(written_by) and written_by != __version__:
        return f"mtx {written_by} wrote it, but this is mtx {__version__}. Use a clone of mtx {written_by}"
    return otherwise


def invalid_values(path: object, reason: str, written_by: object = None) -> str:
    """Return an error message for values of a checkpoint that no translator can be built from."""
    return (
        f"ckpt={path} has invalid values for translation: {' '.join(reason.split())[:300]}. "
        f"{unfit_values_advice(written_by)}"
    )


def damage_of(path: Path) -> str:
    """Return what is wrong with the bytes of a checkpoint, or an empty string if all its checksums are right.

    torch writes checkpoints as zip files, whose members have a CRC-32. The function reads the whole file. A file of
    torch's older format has no checksums, and is reported as no zip file.
    """
    try:
        with zipfile.ZipFile(path) as file:
            packed = [each.filename for each in file.infolist() if each.compress_type != zipfile.ZIP_STORED]
            if packed:  # may be of any size, and torch maps the members into memory as they are
                return f"{packed[0]} in it is compressed, which torch never does"
            damaged = file.testzip()
    except (RuntimeError, ValueError, *ARCHIVE_ERRORS) as error:
        return f"it is not a complete zip file, as torch writes it ({library_reason(error)})"
    except OSError as error:
        return library_reason(error)
    return f"the checksum of {damaged} in it is wrong" if damaged is not None else ""


def unsafe_names(path: Path) -> str:
    """Return the names of Python objects in a checkpoint, in parentheses; empty if they are not known.

    The names are found from the opcodes of the pickle, without running them.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # the file may also be damaged
        return ""
    return f" ({', '.join(sorted(names)[:MAX_NAMES])})" if names else ""


def _not_read_message(path: Path, reason: str) -> str:
    return (
        f"ckpt={path} cannot be read as a checkpoint: {' '.join(reason.split())}. Set ckpt= to another file, such as "
        "best.ckpt of the same run"
    )
