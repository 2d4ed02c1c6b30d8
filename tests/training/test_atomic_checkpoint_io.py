"""A checkpoint is complete or absent, whatever stops its write, and `ckpt=last` takes the newest complete one."""

import errno
import os
import resource
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtx.errors import ConfigError, StoreError
from mtx.training.atomic_checkpoint_io import AtomicCheckpointIO
from mtx.training.checkpoint_content import damage_of
from mtx.training.checkpoint_selection import checkpoint_path, weight_shapes, write_run_key

SMALL = {"state_dict": {"weight": torch.zeros(10)}}
LARGE = {"state_dict": {"weight": torch.zeros(100_000)}}  # 0.4 MB
CONFIG = {"seed": 1}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return a checkpoint that is complete before the test begins."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(SMALL, path)
    return path


def test_the_folder_of_temporary_files_is_not_used(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    AtomicCheckpointIO().save_checkpoint(LARGE, str(kept))
    assert torch.load(kept)["state_dict"]["weight"].shape == (100_000,)
    assert [path.name for path in kept.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_checkpoint_before(
    kept: Path, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = kept.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse) if call == "fsync" else patched.setattr(Path, "replace", refuse)
        with pytest.raises(StoreError) as error:
            AtomicCheckpointIO().save_checkpoint(LARGE, kept)
    told = str(error.value)
    assert f"{kept} of 0.4 MB cannot be written: {os.strerror(number)}, and " in told
    assert "Unchanged in that folder: last.ckpt" in told
    assert "hydra.run.dir=FOLDER" in told
    assert "\n" not in told
    assert kept.read_bytes() == before
    assert [path.name for path in kept.parent.iterdir()] == ["last.ckpt"]


def test_a_write_beyond_a_limit_of_file_sizes_tells_the_size(kept: Path) -> None:
    before, limits = kept.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"of 0\.4 MB cannot be written: File too large, .* or `ulimit -f`"):
            AtomicCheckpointIO().save_checkpoint(LARGE, kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert kept.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file, not a folder")
    with pytest.raises(StoreError, match=r"last\.ckpt cannot be written: File exists"):
        AtomicCheckpointIO().save_checkpoint(SMALL, tmp_path / "checkpoints" / "last.ckpt")


def test_the_remains_of_a_killed_write_go_with_the_next(kept: Path) -> None:
    (kept.parent / ".last.ckpt.0123456789ab.tmp").write_bytes(b"half")
    (kept.parent / ".best.ckpt.0123456789ab.tmp").write_bytes(b"of another file")
    AtomicCheckpointIO().save_checkpoint(LARGE, kept)
    assert sorted(path.name for path in kept.parent.iterdir()) == [".best.ckpt.0123456789ab.tmp", "last.ckpt"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(bytes(40))] = 1  # the first of ten zeros
    path.write_bytes(content)


def change_the_pickle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"state_dict")] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = [truncate, lose_the_end, change_a_weight, change_the_pickle, empty, replace_by_zeros]


@pytest.mark.parametrize("damage", DAMAGES)
def test_last_passes_over_a_damaged_checkpoint(damage: Callable[[Path], None], tmp_path: Path) -> None:
    said: list[str] = []
    runs = [tmp_path / "day" / name for name in ("one", "two")]
    for number, run in enumerate(runs):
        write_run_key(CONFIG, run)
        for place, name in enumerate(("best", "last")):
            path = run / "checkpoints" / f"{name}.ckpt"
            AtomicCheckpointIO().save_checkpoint(SMALL, path)
            os.utime(path, (1000 + 10 * number + place, 1000 + 10 * number + place))
    found = []
    for _ in range(5):
        path = checkpoint_path("last", config=CONFIG, output_dir=tmp_path / "day" / "three", say=said.append)
        found.append("" if path is None else f"{path.parent.parent.name}/{path.name}")
        if path is not None:
            when = path.stat().st_mtime
            damage(path)
            os.utime(path, (when, when))
            assert damage_of(path)
    assert found == ["two/last.ckpt", "two/best.ckpt", "one/last.ckpt", "one/best.ckpt", ""]
    assert "two/checkpoints/last.ckpt is damaged and is passed over: " in said[0]
    assert "has no complete checkpoint" in said[-1]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_that_is_named_is_refused(damage: Callable[[Path], None], kept: Path) -> None:

    damage(kept)
    with pytest.raises(ConfigError, match=r"last\.ckpt cannot be read as a checkpoint: .*set ckpt=null"):
        weight_shapes(kept)


NO_CHECKPOINTS = {
    "an empty file": b"",
    "a text": b"src\ttgt\n",
    "half a zip file": b"PK\3\4" + bytes(40),
    "a list": [1, 2],
    "no weights": {"epoch": 3},
    "weights that are no tensors": {"state_dict": {"layer.weight": [1.0]}},
    "weights without names": {"state_dict": 3},
}


@pytest.mark.parametrize("content", NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_refused_without_a_model(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "my.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(
        ConfigError, match=r"^ckpt=\S+my\.ckpt cannot be read as a checkpoint: .+set ckpt=null"
    ) as refused:
        weight_shapes(path)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_that_ends_like_a_zip_file_of_several_disks_is_refused(tmp_path: Path) -> None:

    path = tmp_path / "a.ckpt"
    path.write_bytes(struct.pack("<4sLQL4s4H2LH", b"PK\6\7", 0, 0, 2, b"PK\5\6", 0, 0, 0, 0, 0, 0, 0))
    with pytest.raises(ConfigError, match="it is not a complete zip file, as torch writes it"):
        weight_shapes(path)
