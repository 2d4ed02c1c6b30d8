"""A file system for `hf://` paths that retries failed byte ranges and checks the digest of completely read files.

The library `datasets` opens `hf://` paths through fsspec. `set_retry_policy` registers a file system for these paths.
It retries reads of the registered commits, and leaves reads of other commits unchanged. If a read fails, only its byte
range is requested again. No data are read twice, and no rows are lost or repeated.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from mtx.errors import SourceError
from mtx.infra.dataset.hub.client_check import check_client
from mtx.infra.dataset.hub.retry import RetryPolicy, RetryTimeoutError, ShortResponseError, network_errors

Response = TypeVar("Response")

_policies: dict[str, RetryPolicy] = {}  # the key is "OWNER/NAME@COMMIT"


def set_retry_policy(dataset: str, commit: str, policy: RetryPolicy) -> None:
    """Read all files of `dataset` at `commit` with the retry policy `policy`, in this process."""
    import fsspec

    check_client("datasets", "huggingface_hub")
    _policies[f"{dataset}@{commit}"] = policy
    fsspec.register_implementation("hf", _file_system_class(), clobber=True)


class RangeDigest:
    """Compares a file that is read from start to end with the digest that the repository states.

    Args:
        name: name of the file, for the error message.
        size: size of the file in bytes.
        sha256: SHA-256 of the content, which the repository states for large files; None: not stated.
        git_id: git's SHA-1 of the content, for files without `sha256`; None: not stated.
    """

    def __init__(self, *, name: str, size: int, sha256: str | None, git_id: str | None) -> None:
        self._name, self._size, self._expected = name, size, sha256 or git_id
        self._hash = hashlib.sha256() if sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        self._num_bytes = 0

    def add(self, start: int, data: bytes) -> None:
        """Add the bytes `data`, which begin at the offset `start`.

        Raises SourceError if the complete file has a wrong digest.
        """
        if not start <= self._num_bytes < start + len(data):
            return  # already added, or after a gap: only files that are read in order are checked
        self._hash.update(memoryview(data)[self._num_bytes - start :])
        self._num_bytes = start + len(data)
        if self._num_bytes == self._size and self._expected not in (None, self._hash.hexdigest()):
            raise SourceError(
                f"the download of the file {self._name} is damaged: the repository states the digest "
                f"{self._expected}, but the downloaded bytes have the digest {self._hash.hexdigest()}. "
                "Nothing was stored; run again"
            )


def _response(policy: RetryPolicy, question: Callable[[], Response]) -> Response:
    try:
        return policy.call(question)
    except network_errors() as error:
        raise RetryTimeoutError from error


@cache
def _file_system_class() -> type[Any]:
    from fsspec.spec import AbstractBufferedFile
    from huggingface_hub import HfFileSystem, constants
    from huggingface_hub.hf_file_system import HfFileSystemFile
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but in no __all__
        build_hf_headers,
        hf_raise_for_status,
        http_stream_backoff,
    )

    class RetryingFile(HfFileSystemFile):
        """A file whose reads return all requested bytes, with retries."""

        policy: RetryPolicy
        digest: RangeDigest

        def read(self, length: int | None = -1) -> bytes:
            # HfFileSystemFile.read would open a plain stream, which cannot continue after a failure.
            return bytes(AbstractBufferedFile.read(self, -1 if length is None else length))

        def _fetch_range(self, start: int, end: int) -> bytes:
            data, end = bytearray(), min(end, self.size)
            while start + len(data) < end:
                num_before = len(data)
                try:
                    _response(self.policy, lambda: self._fill(data, start, end))
                except RetryTimeoutError:
                    if len(data) == num_before:
                        raise
            whole = bytes(data)
            self.digest.add(start, whole)
            return whole

        def _fill(self, data: bytearray, start: int, end: int) -> None:
            """Download bytes up to `end` and append them to `data`, whose first byte has the file offset `start`.

            If the download fails, the bytes that arrived before stay in `data`.
            """
            first = start + len(data)
            headers = {**build_hf_headers(token=self.fs.token), "range": f"bytes={first}-{end - 1}"}
            headers["accept-encoding"] = "identity"  # range offsets then refer to the uncompressed file
            timeout_s = constants.HF_HUB_DOWNLOAD_TIMEOUT
            with http_stream_backoff("GET", self.url(), headers=headers, timeout=timeout_s, max_retries=0) as response:
                hf_raise_for_status(response)
                num_before = first if response.status_code == 200 else 0  # 200: the server ignores ranges
                for chunk in response.iter_bytes():
                    data += chunk[num_before:][: end - start - len(data)]
                    num_before = max(0, num_before - len(chunk))
                    if start + len(data) == end:
                        return
            raise ShortResponseError(
                f"only {start + len(data) - first:,} of {end - first:,} bytes arrived, from byte {first:,}"
            )

    class RetryingFileSystem(HfFileSystem):
        """Opens files of the commits in `_policies` as RetryingFile, and other files as HfFileSystem does."""

        def _open(
            self,
            path: str,
            mode: str = "rb",
            block_size: int | None = None,
            revision: str | None = None,
            **options: Any,
        ) -> Any:
            resolved: Any = self.resolve_path(path, revision=revision)
            policy = _policies.get(f"{getattr(resolved, 'repo_id', '')}@{getattr(resolved, 'revision', '')}")
            if policy is None or mode != "rb":
                return super()._open(path, mode, block_size, revision, **options)
            options.pop("cache_type", None)  # read in blocks, because a plain stream cannot continue after a failure
            file = _response(policy, lambda: RetryingFile(self, path, mode=mode, revision=revision, **options))
            known = _response(policy, lambda: file.details)
            lfs = known.get("lfs") or {}
            sha256 = lfs.get("sha256") if isinstance(lfs, dict) else lfs.sha256
            name = f"{resolved.path_in_repo} of the dataset {resolved.repo_id}"
            file.policy = policy
            file.digest = RangeDigest(name=name, size=known["size"], sha256=sha256, git_id=known.get("blob_id"))
            return file

    return RetryingFileSystem
