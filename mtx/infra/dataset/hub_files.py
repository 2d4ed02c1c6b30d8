"""Bytes of files on the Hub: each range whole or asked for again, and files that are read to their end checked.

`datasets` opens `hf://` paths through fsspec. `watch` puts a file system in that place that treats the files of one
commit with care, and all others as before. A failure is met where it happens: the range is asked for again, so nothing
that was read before is read twice, and rows can be neither lost nor repeated.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from mtx.errors import SourceError
from mtx.infra.dataset.hub_client import check_client
from mtx.infra.dataset.patience import OutOfPatienceError, Patience, ShortAnswerError, network_errors

Answer = TypeVar("Answer")

_watched: dict[str, Patience] = {}  # by "OWNER/NAME@COMMIT"


def watch(dataset: str, commit: str, patience: Patience) -> None:
    """Read files of that commit with `patience` from now on, in this process."""
    import fsspec

    check_client("datasets", "huggingface_hub")
    _watched[f"{dataset}@{commit}"] = patience
    fsspec.register_implementation("hf", _file_system(), clobber=True)


class Digest:
    """Follows what is read of a file, and compares it with the repository's digest when it was read from 0 to its end.

    Args:
        name: the file, for the message.
        size: in bytes.
        sha256: of the content, where the repository says it: for large files.
        git_id: git's SHA-1 of the content, where there is no sha256.
    """

    def __init__(self, *, name: str, size: int, sha256: str | None, git_id: str | None) -> None:
        self._name, self._size, self._expected = name, size, sha256 or git_id
        self._hash = hashlib.sha256() if sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        self._num_bytes = 0

    def add(self, start: int, data: bytes) -> None:
        """Take the bytes from `start` on. Raises SourceError where the file is whole now and is another."""
        if not start <= self._num_bytes < start + len(data):
            return  # read before, or after a gap: files that are read in another order have no digest to compare
        self._hash.update(memoryview(data)[self._num_bytes - start :])
        self._num_bytes = start + len(data)
        if self._num_bytes == self._size and self._expected not in (None, self._hash.hexdigest()):
            raise SourceError(
                f"the file {self._name} came damaged: by the repository its digest is {self._expected}, but what came "
                f"has {self._hash.hexdigest()}. Nothing of it is kept; run again"
            )


def _ask(patience: Patience, question: Callable[[], Answer]) -> Answer:
    try:
        return patience.ask(question)
    except network_errors() as error:
        raise OutOfPatienceError from error


@cache
def _file_system() -> type[Any]:
    from fsspec.spec import AbstractBufferedFile
    from huggingface_hub import HfFileSystem, constants
    from huggingface_hub.hf_file_system import HfFileSystemFile
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but in no __all__
        build_hf_headers,
        hf_raise_for_status,
        http_stream_backoff,
    )

    class PatientFile(HfFileSystemFile):
        """A file that gives all bytes that were asked for."""

        patience: Patience
        digest: Digest

        def read(self, length: int | None = -1) -> bytes:
            # HfFileSystemFile would open the file once more for a plain stream, which cannot go on after a failure.
            return bytes(AbstractBufferedFile.read(self, -1 if length is None else length))

        def _fetch_range(self, start: int, end: int) -> bytes:
            data, end = bytearray(), min(end, self.size)
            while start + len(data) < end:
                num_before = len(data)
                try:
                    _ask(self.patience, lambda: self._fill(data, start, end))
                except OutOfPatienceError:
                    if len(data) == num_before:
                        raise
            whole = bytes(data)
            self.digest.add(start, whole)
            return whole

        def _fill(self, data: bytearray, start: int, end: int) -> None:
            """Add bytes up to `end` to `data`, which begins at `start`; what came before a failure is kept."""
            first = start + len(data)
            headers = {**build_hf_headers(token=self.fs.token), "range": f"bytes={first}-{end - 1}"}
            headers["accept-encoding"] = "identity"  # ranges count the bytes of the file itself
            timeout_s = constants.HF_HUB_DOWNLOAD_TIMEOUT
            with http_stream_backoff("GET", self.url(), headers=headers, timeout=timeout_s, max_retries=0) as response:
                hf_raise_for_status(response)
                num_before = first if response.status_code == 200 else 0  # 200: ranges are not served
                for chunk in response.iter_bytes():
                    data += chunk[num_before:][: end - start - len(data)]
                    num_before = max(0, num_before - len(chunk))
                    if start + len(data) == end:
                        return
            raise ShortAnswerError(f"of {end - first:,} bytes from {first:,} on, {start + len(data) - first:,} came")

    class PatientFileSystem(HfFileSystem):
        """Opens files of watched commits as PatientFile."""

        def _open(
            self,
            path: str,
            mode: str = "rb",
            block_size: int | None = None,
            revision: str | None = None,
            **options: Any,
        ) -> Any:
            resolved: Any = self.resolve_path(path, revision=revision)
            patience = _watched.get(f"{getattr(resolved, 'repo_id', '')}@{getattr(resolved, 'revision', '')}")
            if patience is None or mode != "rb":
                return super()._open(path, mode, block_size, revision, **options)
            options.pop("cache_type", None)  # blocks in place of a plain stream, which cannot go on after a failure
            file = _ask(patience, lambda: PatientFile(self, path, mode=mode, revision=revision, **options))
            known = _ask(patience, lambda: file.details)
            lfs = known.get("lfs") or {}
            sha256 = lfs.get("sha256") if isinstance(lfs, dict) else lfs.sha256
            name = f"{resolved.path_in_repo} of the dataset {resolved.repo_id}"
            file.patience = patience
            file.digest = Digest(name=name, size=known["size"], sha256=sha256, git_id=known.get("blob_id"))
            return file

    return PatientFileSystem
