"""Write checkpoints so that each file is complete or absent.

Lightning writes a checkpoint to the folder for temporary files first. If that folder is on another file system than the
run folder, Lightning copies the file over the checkpoint before it. A process that is killed meanwhile leaves half of
the file.
"""

import errno
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.cloud_io import get_filesystem
from typing_extensions import override

from mtx.errors import StoreError
from mtx.infra.dal.atomic_file import AtomicFile, atomic_file, remove_leftovers
from mtx.library_errors import library_reason


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint of a local folder under a temporary name beside it, syncs it, and renames it.

    A checkpoint under a URL is written by Lightning.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if storage_options is not None or "file" not in get_filesystem(path).protocol:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path).absolute()
        size = 0
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target)  # of a process that was killed while it wrote this checkpoint
            with atomic_file(target, is_hashed=False) as file:
                writer = _FirstErrorWriter(file)
                torch.save(checkpoint, cast(IO[bytes], writer))
                size = writer.num_bytes
                if writer.error is not None:
                    raise writer.error
        except (OSError, StoreError) as error:
            raise StoreError(_unwritten_message(target, size, error)) from error


def write_atomically(trainer: pl.Trainer) -> None:
    """Let a Trainer write its checkpoints with `AtomicCheckpointIO`, unless a plugin of the user writes them."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


class _FirstErrorWriter:
    """A file for `torch.save` that keeps the first error of a write, and counts the bytes of all writes.

    torch replaces an error of a write by one without the reason. After an error, nothing more is written, but the
    bytes are counted, so that the message of the error tells the size of the checkpoint.
    """

    def __init__(self, file: AtomicFile) -> None:
        self._file = file
        self.num_bytes = 0
        self.error: StoreError | None = None

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.num_bytes += size
        if self.error is None:
            try:
                self._file.write(data)
            except StoreError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Do nothing, because `atomic_file` flushes the file once, after the last write."""


def _unwritten_message(path: Path, size: int, error: Exception) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    is_limit = getattr(cause, "errno", None) in (errno.EFBIG, errno.EDQUOT)
    needed = f" of {size / 1e6:,.1f} MB" if size else ""
    free, kept = "", ""
    with suppress(OSError):
        free = f", and {shutil.disk_usage(path.parent).free / 1e6:,.1f} MB are free"
        names = sorted(other.name for other in path.parent.glob("*.ckpt"))
        kept = f" Unchanged in that folder: {', '.join(names)}." if names else ""
    what = "Raise your quota or `ulimit -f`" if is_limit else "Free that space"
    return (
        f"the checkpoint {path}{needed} cannot be written: {library_reason(cause)}{free}.{kept} {what}, or choose a "
        "folder on another disk with hydra.run.dir=FOLDER. Then go on from the last complete checkpoint with ckpt=FILE"
    )
