"""Unpacks untrusted archives of exports safely.

Only files that the export's manifest lists are unpacked: regular files with plain names and with the listed size and
SHA-256. A dataset card and members that an operating system adds are passed over; any other file is refused. The sum of
the listed sizes is limited relative to the archive's size before anything is written. Reading stops at the listed size,
so that a small archive cannot fill the disk.
"""

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import IO

from mtx.data.exchange.atomic_export_target import COPY_BYTES
from mtx.data.exchange.dataset_card import CARD_FILE
from mtx.data.exchange.export_manifest import EXPORT_FILE, MAX_MANIFEST_BYTES, ExportManifest, parse_manifest
from mtx.errors import DamagedError, SourceError
from mtx.infra.dal.archive_errors import ARCHIVE_ERRORS
from mtx.infra.dal.atomic_file import convert_disk_errors
from mtx.infra.dataset.sources.local_files import is_hidden_member
from mtx.library_errors import library_reason

GZIP_MAGIC = b"\x1f\x8b"  # first bytes of every gzip file
ALWAYS_ALLOWED_BYTES = 1 << 26  # unpacked size that is allowed for every archive, whatever its ratio
HEADER_BYTES = 1 << 16  # allowance for tar headers and padding, per file and for the archive itself
ENCRYPTED_FLAG = 0x1  # bit in the flags of a zip member


def unpack(source: Path, into: Path, *, max_ratio: float) -> ExportManifest:
    """Copy all files that an export's manifest lists into the empty folder `into`, check them, and return the manifest.

    Args:
        source: a folder or an archive; the content determines which.
        into: an empty folder that belongs to this process.
        max_ratio: maximum ratio of unpacked size, including decoded rows, to archive size.

    Raises SourceError if `source` is not an export or is unsafe, DamagedError if a file differs from the manifest, and
    StoreError if writing fails. The caller must remove files that were copied before an error.
    """
    try:
        if source.is_dir():
            manifest = _unpack_folder(source, into)
        elif zipfile.is_zipfile(source):
            manifest = _unpack_zip(source, into, max_ratio)
        elif _is_gzip(source):
            manifest = _unpack_tar(source, into, max_ratio)
        else:
            raise SourceError(
                f"{source} is neither a folder nor a .zip or .tar.gz archive that mtx task=export wrote. "
                "Correct from=FILE; read other files with downloader=local"
            )
    except FileNotFoundError as error:
        raise SourceError(f"there is no {error.filename or source}. Correct from=FILE") from error
    except (OSError, *ARCHIVE_ERRORS) as error:
        raise SourceError(
            f"{source} cannot be read as an archive: {library_reason(error)}. Nothing was imported; get the file again"
        ) from error
    return manifest


def _is_passed_over(name: str) -> bool:
    return name == CARD_FILE or is_hidden_member(name)


def _is_gzip(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _unpack_folder(source: Path, into: Path) -> ExportManifest:
    def opened(path: str) -> IO[bytes]:
        at = source
        for part in path.split("/"):
            at = at / part
            if at.is_symlink():
                raise SourceError(f"{at} is a link, but an export has only files. Nothing was imported")
        if not at.is_file() and path == EXPORT_FILE:
            raise SourceError(f"{source} has no {EXPORT_FILE}, so it is no export. Correct from=PATH")
        if not at.is_file():
            raise SourceError(f"{source} has no file {path}, which its {EXPORT_FILE} lists. Export the dataset again")
        return at.open("rb")

    with opened(EXPORT_FILE) as file:
        manifest = parse_manifest(_manifest_bytes(file, source), source)
    for path in manifest.files:
        with opened(path) as file:
            _copy(file, into, path, manifest, source)
    return manifest


def _unpack_zip(source: Path, into: Path, max_ratio: float) -> ExportManifest:
    with zipfile.ZipFile(source) as archive:
        members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.flag_bits & ENCRYPTED_FLAG or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_plain_error(source, member.filename)
            if member.is_dir() or _is_passed_over(member.filename):
                continue
            if member.filename in members:
                raise _duplicate_error(source, member.filename)
            members[member.filename] = member
        if EXPORT_FILE not in members:
            raise _no_manifest_error(source)
        with archive.open(members[EXPORT_FILE]) as file:
            manifest = parse_manifest(_manifest_bytes(file, source), source)
        _check_ratio(manifest, source, max_ratio)
        for name in members.keys() - manifest.files.keys() - {EXPORT_FILE}:
            raise _undeclared_error(source, name)
        for path in manifest.files:
            if path not in members:
                raise _absent_error(source, path)
            with archive.open(members[path]) as file:
                _copy(file, into, path, manifest, source)
    return manifest


def _unpack_tar(source: Path, into: Path, max_ratio: float) -> ExportManifest:
    """Unpack a .tar.gz in a single pass, because searching for a member would decompress the whole archive."""
    seen: set[str] = set()
    manifest: ExportManifest | None = None
    with gzip.open(source) as stream:
        bounded = _BoundedStream(stream, MAX_MANIFEST_BYTES + HEADER_BYTES, source)
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
                    raise _not_plain_error(source, member.name)
                if _is_passed_over(member.name):
                    continue
                if member.name in seen:
                    raise _duplicate_error(source, member.name)
                seen.add(member.name)
                file = archive.extractfile(member)
                assert file is not None
                if manifest is None:
                    if member.name != EXPORT_FILE:
                        raise _no_manifest_error(source)
                    manifest = parse_manifest(_manifest_bytes(file, source), source)
                    _check_ratio(manifest, source, max_ratio)
                    bounded.limit += sum(f.num_bytes + HEADER_BYTES for f in manifest.files.values())
                elif member.name not in manifest.files:
                    raise _undeclared_error(source, member.name)
                else:
                    _copy(file, into, member.name, manifest, source)
    if manifest is None:
        raise _no_manifest_error(source)
    for path in manifest.files:
        if path not in seen:
            raise _absent_error(source, path)
    return manifest


class _BoundedStream(io.RawIOBase):
    """A stream that raises SourceError beyond a limit of bytes, because tar headers can be as large as files."""

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
                f"{self._source} unpacks to more than the {self.limit:,} bytes that its {EXPORT_FILE} allows. "
                "It was not written by mtx task=export, or is meant to fill a disk. Nothing was imported"
            )
        return content


def _manifest_bytes(file: IO[bytes], source: Path) -> bytes:
    content = file.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise SourceError(
            f"{EXPORT_FILE} of {source} is longer than {MAX_MANIFEST_BYTES:,} bytes. Nothing was imported"
        )
    return content


def _copy(file: IO[bytes], into: Path, path: str, manifest: ExportManifest, source: Path) -> None:
    """Copy one file up to its listed size, and compare its SHA-256. Raises DamagedError or StoreError."""
    declared = manifest.files[path]
    sha256, num_bytes, to = hashlib.sha256(), 0, into / path
    with convert_disk_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        out = to.open("xb")
    with out:
        while block := file.read(min(COPY_BYTES, declared.num_bytes - num_bytes + 1)):
            num_bytes += len(block)
            if num_bytes > declared.num_bytes:
                break
            sha256.update(block)
            with convert_disk_errors(to):
                out.write(block)
    if num_bytes != declared.num_bytes:
        found = f"more than {declared.num_bytes}" if num_bytes > declared.num_bytes else str(num_bytes)
        raise DamagedError(
            f"{path} of {source} has changed: bytes {found}, but the manifest says {declared.num_bytes}. "
            "Nothing was imported; get the file again"
        )
    if sha256.hexdigest() != declared.sha256:
        raise DamagedError(
            f"{path} of {source} has changed: SHA-256 {sha256.hexdigest()}, but the manifest says {declared.sha256}. "
            "Nothing was imported; get the file again"
        )


def _check_ratio(manifest: ExportManifest, source: Path, max_ratio: float) -> None:
    packed = source.stat().st_size
    if manifest.num_bytes > max(ALWAYS_ALLOWED_BYTES, max_ratio * packed):
        raise SourceError(
            f"{source} has {packed:,} bytes, but declares {manifest.num_bytes:,} unpacked bytes, more than "
            f"{max_ratio:g} times as many. Archives that are meant to fill a disk are so. Nothing was imported. "
            "If you trust this one, raise task.max_ratio"
        )


def _not_plain_error(source: Path, name: str) -> SourceError:
    return SourceError(
        f"{source} has {name!r}, which is a link, a device, encrypted or sparse; an export has only plain files. "
        "Nothing was imported"
    )


def _duplicate_error(source: Path, name: str) -> SourceError:
    return SourceError(f"{source} has {name!r} twice, so that its content is ambiguous. Nothing was imported")


def _undeclared_error(source: Path, name: str) -> SourceError:
    return SourceError(f"{source} has {name!r}, which its {EXPORT_FILE} does not list. Nothing was imported")


def _absent_error(source: Path, path: str) -> SourceError:
    return SourceError(
        f"{source} has no file {path}, which its {EXPORT_FILE} lists. Nothing was imported; get the file again"
    )


def _no_manifest_error(source: Path) -> SourceError:
    return SourceError(
        f"{source} has no {EXPORT_FILE}, which must be the first file in a .tar.gz. Nothing was imported. If the "
        "export was packed with another tool, unpack it and import the folder"
    )
