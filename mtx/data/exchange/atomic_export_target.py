"""Writes exports as archives or folders atomically: the target is complete, or it does not exist."""

import contextlib
import gzip
import os
import shutil
import stat
import tarfile
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal

from mtx.data.exchange.export_manifest import EXPORT_FILE
from mtx.errors import ConfigError
from mtx.infra.dal.archive_errors import ARCHIVE_ERRORS
from mtx.infra.dal.atomic_file import convert_disk_errors, sync_folder

TargetKind = Literal["zip", "tar", "folder"]
SUFFIXES: dict[str, TargetKind] = {".zip": "zip", ".tar.gz": "tar", ".tgz": "tar"}
# Modification time of all members, so that equal exports are equal bytes; the earliest time that zip supports.
MEMBER_TIME = (1980, 1, 1, 0, 0, 0)
COPY_BYTES = 1 << 20


def target_kind(target: Path) -> TargetKind:
    """Return `zip` or `tar` if the target's suffix is that of an archive, else `folder`."""
    return next((kind for suffix, kind in SUFFIXES.items() if target.name.lower().endswith(suffix)), "folder")


@contextlib.contextmanager
def atomic_target(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty temporary folder; after the block, atomically turn its content into `target`, a folder or archive.

    Raises ConfigError if `target` exists and must not be replaced, and StoreError if writing fails.
    """
    _check_target(target, overwrite=overwrite)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    packed = temporary.with_suffix(".packed.tmp")
    try:
        with convert_disk_errors(target):
            temporary.mkdir(parents=True)
        yield temporary
        kind = target_kind(target)
        with convert_disk_errors(target):
            if kind == "folder":
                _sync_tree(temporary)
                _replace_folder(temporary, target, overwrite=overwrite)
            else:
                _pack(temporary, packed, kind)
                if target.exists() and not overwrite:  # another process has written it in the meantime
                    _check_target(target, overwrite=False)
                packed.replace(target)
            sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        packed.unlink(missing_ok=True)


def _check_target(target: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise ConfigError(f"{target} already exists and is kept. Choose another with to=, or set overwrite=true")
    if target.is_dir() != (target_kind(target) == "folder") or target.is_symlink():
        raise ConfigError(f"{target} is no {target_kind(target)}, so it is not replaced. Choose another with to=")
    if target.is_dir() and any(target.iterdir()) and not (target / EXPORT_FILE).is_file():
        raise ConfigError(
            f"{target} is a folder without {EXPORT_FILE}, so it is not an earlier export, and is kept. Choose "
            "another with to="
        )
    if target.is_file() and not _has_export_file(target):
        raise ConfigError(
            f"{target} is an archive without {EXPORT_FILE}, so it is not an earlier export, and is kept. Choose "
            "another with to="
        )


def _has_export_file(archive: Path) -> bool:
    """Return whether an archive has an export's manifest; False if it cannot be read."""
    try:
        if target_kind(archive) == "zip":
            with zipfile.ZipFile(archive) as packed:
                return EXPORT_FILE in packed.namelist()
        with tarfile.open(archive) as members:
            first = members.next()  # where an export has its manifest
            return first is not None and first.name == EXPORT_FILE
    except (OSError, *ARCHIVE_ERRORS):
        return False


def _replace_folder(temporary: Path, target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    _check_target(target, overwrite=overwrite)
    old = temporary.with_suffix(".old.tmp")
    target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old)


def _pack(folder: Path, target: Path, kind: TargetKind) -> None:
    """Write all files of a folder into an archive, with the manifest as the first member."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files.sort(key=lambda path: path.name != EXPORT_FILE)
    with target.open("xb") as out:
        pack: Callable[[IO[bytes], Path, list[Path]], None] = _pack_zip if kind == "zip" else _pack_tar
        pack(out, folder, files)
        out.flush()
        os.fsync(out.fileno())


def _pack_zip(out: IO[bytes], folder: Path, files: list[Path]) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        for path in files:
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), MEMBER_TIME)
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            # Parquet files are compressed already.
            member.compress_type = zipfile.ZIP_STORED if path.suffix == ".parquet" else zipfile.ZIP_DEFLATED
            with path.open("rb") as file, archive.open(member, "w", force_zip64=True) as to:
                shutil.copyfileobj(file, to, COPY_BYTES)


def _pack_tar(out: IO[bytes], folder: Path, files: list[Path]) -> None:
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in files:
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
