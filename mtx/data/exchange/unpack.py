"""Archives unpacked without trusting anything in them.

Only what an export's manifest declares is unpacked: regular files of plain names, each of the declared size and
SHA-256, written by our own code into a folder of ours. The sum of declared sizes is bounded by the size of the archive
before anything is written, and reading stops at the declared size, so that a small archive cannot fill a disk.
"""

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from mtx.data.exchange.archive import COPY_BYTES
from mtx.data.exchange.layout import EXPORT, MAX_MANIFEST_BYTES, ExportManifest, parse_manifest
from mtx.errors import DamagedError, SourceError
from mtx.infra.dal.base import reason, writing

GZIP = b"\x1f\x8b"  # how each gzip file begins
SMALL_BYTES = 1 << 26  # archives may always unpack to this much, whatever the ratio
HEADER_BYTES = 1 << 16  # of a tar's headers and padding, for each of its files and at its ends
ENCRYPTED = 0x1  # bit of a zip member's flags


def unpack(source: Path, into: Path, *, max_ratio: float) -> ExportManifest:
    """Copy what an export declares into the empty folder `into`, checked, and return its manifest.

    Args:
        source: a folder or an archive, recognised by its content.
        into: a folder of our own.
        max_ratio: how many times its own size an archive may unpack to, rows decoded.

    Raises SourceError where it is no export or one that cannot be trusted, DamagedError where bytes differ from what
    the manifest says, and StoreError where the disk refuses. What was copied until then is the caller's to remove.
    """
    try:
        if source.is_dir():
            manifest = _from_folder(source, into)
        elif zipfile.is_zipfile(source):
            manifest = _from_zip(source, into, max_ratio)
        elif _is_gzip(source):
            manifest = _from_tar(source, into, max_ratio)
        else:
            raise SourceError(
                f"{source} is neither a folder nor a .zip or .tar.gz archive that mtx task=export wrote. "
                "Correct from=FILE; other files are read with downloader=local"
            )
    except FileNotFoundError as error:
        raise SourceError(f"there is no {error.filename or source}. Correct from=FILE") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise SourceError(
            f"{source} cannot be read as an archive: {reason(error)}. Nothing was imported; get it once more"
        ) from error
    return manifest


def _is_gzip(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def _from_folder(source: Path, into: Path) -> ExportManifest:
    def opened(path: str) -> IO[bytes]:
        at = source
        for part in path.split("/"):
            at = at / part
            if at.is_symlink():
                raise SourceError(f"{at} is a link, but an export has files alone. Nothing was imported")
        if not at.is_file():
            raise SourceError(f"{source} has no file {path}, which its {EXPORT} names. Export the dataset again")
        return at.open("rb")

    with opened(EXPORT) as file:
        manifest = parse_manifest(_bounded(file, source), source)
    for path in manifest.files:
        with opened(path) as file:
            _copy(file, into, path, manifest, source)
    return manifest


def _from_zip(source: Path, into: Path, max_ratio: float) -> ExportManifest:
    with zipfile.ZipFile(source) as archive:
        members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.flag_bits & ENCRYPTED or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_plain(source, member.filename)
            if member.is_dir():
                continue
            if member.filename in members:
                raise _twice(source, member.filename)
            members[member.filename] = member
        if EXPORT not in members:
            raise _no_manifest(source)
        with archive.open(members[EXPORT]) as file:
            manifest = parse_manifest(_bounded(file, source), source)
        _check_ratio(manifest, source, max_ratio)
        for name in members.keys() - manifest.files.keys() - {EXPORT}:
            raise _undeclared(source, name)
        for path in manifest.files:
            if path not in members:
                raise _absent(source, path)
            with archive.open(members[path]) as file:
                _copy(file, into, path, manifest, source)
    return manifest


def _from_tar(source: Path, into: Path, max_ratio: float) -> ExportManifest:
    """Read a .tar.gz as a stream, once: looking for a member would unpack all of it."""
    seen: set[str] = set()
    manifest: ExportManifest | None = None
    with gzip.open(source) as stream:
        bounded = _Bounded(stream, MAX_MANIFEST_BYTES + HEADER_BYTES, source)
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
                    raise _not_plain(source, member.name)
                if member.name in seen:
                    raise _twice(source, member.name)
                seen.add(member.name)
                file = archive.extractfile(member)
                assert file is not None
                if manifest is None:
                    if member.name != EXPORT:
                        raise _no_manifest(source)
                    manifest = parse_manifest(_bounded(file, source), source)
                    _check_ratio(manifest, source, max_ratio)
                    bounded.limit += sum(f.num_bytes + HEADER_BYTES for f in manifest.files.values())
                elif member.name not in manifest.files:
                    raise _undeclared(source, member.name)
                else:
                    _copy(file, into, member.name, manifest, source)
    if manifest is None:
        raise _no_manifest(source)
    for path in manifest.files:
        if path not in seen:
            raise _absent(source, path)
    return manifest


class _Bounded(io.RawIOBase):
    """What a stream gives, up to a limit: headers of a tar can be as large as its files."""

    def __init__(self, stream: gzip.GzipFile, limit: int, source: Path) -> None:
        self.limit = limit
        self._stream = stream
        self._source = source
        self._num_bytes = 0

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(min(size, COPY_BYTES) if size >= 0 else COPY_BYTES)
        self._num_bytes += len(content)
        if self._num_bytes > self.limit:
            raise SourceError(
                f"{self._source} unpacks to more than the {self.limit:,} bytes that its {EXPORT} accounts for. "
                "It was not made by mtx task=export, or is meant to fill a disk. Nothing was imported"
            )
        return content


def _bounded(file: IO[bytes], source: Path) -> bytes:
    content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise SourceError(f"{EXPORT} of {source} is longer than {MAX_MANIFEST_BYTES:,} bytes. Nothing was imported")
    return content


def _copy(file: IO[bytes], into: Path, path: str, manifest: ExportManifest, source: Path) -> None:
    """Copy one file up to its declared size, and compare its digest. Raises DamagedError, or StoreError."""
    declared = manifest.files[path]
    sha256, num_bytes, to = hashlib.sha256(), 0, into / path
    with writing(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        out = to.open("xb")
    with out:
        while block := file.read(min(COPY_BYTES, declared.num_bytes - num_bytes + 1)):
            num_bytes += len(block)
            if num_bytes > declared.num_bytes:
                break
            sha256.update(block)
            with writing(to):
                out.write(block)
    if num_bytes != declared.num_bytes:
        found = f"more than {declared.num_bytes}" if num_bytes > declared.num_bytes else str(num_bytes)
        raise DamagedError(
            f"{path} of {source} has changed: bytes {found}, but exported were {declared.num_bytes}. "
            "Nothing was imported; get it once more"
        )
    if sha256.hexdigest() != declared.sha256:
        raise DamagedError(
            f"{path} of {source} has changed: SHA-256 {sha256.hexdigest()}, but exported was {declared.sha256}. "
            "Nothing was imported; get it once more"
        )


def _check_ratio(manifest: ExportManifest, source: Path, max_ratio: float) -> None:
    packed = source.stat().st_size
    if manifest.num_bytes > max(SMALL_BYTES, max_ratio * packed):
        raise SourceError(
            f"{source} has {packed:,} bytes and says it unpacks to {manifest.num_bytes:,}, more than "
            f"{max_ratio:g} times as many, as an archive does that is meant to fill a disk. Nothing was imported. "
            "Where you trust it, raise task.max_ratio"
        )


def _not_plain(source: Path, name: str) -> SourceError:
    return SourceError(
        f"{source} has {name!r}, which is a link, a device, encrypted or sparse; an export has plain files alone. "
        "Nothing was imported"
    )


def _twice(source: Path, name: str) -> SourceError:
    return SourceError(f"{source} has {name!r} twice, so that readers may see different files. Nothing was imported")


def _undeclared(source: Path, name: str) -> SourceError:
    return SourceError(f"{source} has {name!r}, which its {EXPORT} does not name. Nothing was imported")


def _absent(source: Path, path: str) -> SourceError:
    return SourceError(f"{source} has no file {path}, which its {EXPORT} names. Nothing was imported; get it once more")


def _no_manifest(source: Path) -> SourceError:
    return SourceError(
        f"{source} has no {EXPORT}; in a .tar.gz it comes first, as mtx task=export writes it. Nothing was imported. "
        "Where it was packed in another way, unpack it and import the folder"
    )
