"""Archives and folders that exports are written to: they appear whole or not at all."""

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

from mtx.data.exchange.layout import EXPORT
from mtx.errors import ConfigError
from mtx.infra.dal.base import sync_folder, writing

Kind = Literal["zip", "tar", "folder"]
SUFFIXES: dict[str, Kind] = {".zip": "zip", ".tar.gz": "tar", ".tgz": "tar"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # of all members, so that the same export is the same bytes; the first that zip knows
COPY_BYTES = 1 << 20


def kind_of(target: Path) -> Kind:
    """Return what the suffix of a target asks for: an archive, or else a folder."""
    return next((kind for suffix, kind in SUFFIXES.items() if target.name.lower().endswith(suffix)), "folder")


@contextlib.contextmanager
def whole(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder, and make what is written there `target`: a folder or an archive, whole or not at all.

    Raises ConfigError where `target` exists and may not be replaced, and StoreError where the disk refuses.
    """
    _check_target(target, overwrite=overwrite)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    packed = temporary.with_suffix(".packed.tmp")
    try:
        with writing(target):
            temporary.mkdir(parents=True)
        yield temporary
        kind = kind_of(target)
        with writing(target):
            if kind == "folder":
                _sync_tree(temporary)
                _replace_folder(temporary, target, overwrite=overwrite)
            else:
                _pack(temporary, packed, kind)
                if target.exists() and not overwrite:  # written by another meanwhile
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
        raise ConfigError(f"{target} exists already, and is kept. Choose another with to=, or set overwrite=true")
    if target.is_dir() != (kind_of(target) == "folder") or target.is_symlink():
        raise ConfigError(f"{target} is no {kind_of(target)} to be overwritten. Choose another with to=")
    if target.is_dir() and any(target.iterdir()) and not (target / EXPORT).is_file():
        raise ConfigError(
            f"{target} is a folder without {EXPORT}, so it is no earlier export, and is kept. Choose another with to="
        )


def _replace_folder(temporary: Path, target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    _check_target(target, overwrite=overwrite)
    old = temporary.with_suffix(".old.tmp")
    target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old)


def _pack(folder: Path, target: Path, kind: Kind) -> None:
    """Write all files of a folder into an archive, the manifest first."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files.sort(key=lambda path: path.name != EXPORT)
    with target.open("xb") as out:
        pack: Callable[[IO[bytes], Path, list[Path]], None] = _pack_zip if kind == "zip" else _pack_tar
        pack(out, folder, files)
        out.flush()
        os.fsync(out.fileno())


def _pack_zip(out: IO[bytes], folder: Path, files: list[Path]) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        for path in files:
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            # Parquet and Arrow compress better themselves, or are meant to be mapped.
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
