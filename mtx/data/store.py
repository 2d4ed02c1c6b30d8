"""`Store`, the folder of all datasets and artifacts, with the layers that read and write them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mtx.components.identity import digest
from mtx.data.repo import DatasetRepo
from mtx.errors import ConfigError, DamagedError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.artifact import ArtifactLayer, FolderArtifactLayer
from mtx.infra.dal.atomic_file import make_folder
from mtx.infra.dal.manifest_digest import format_version
from mtx.infra.dal.protocols import FileLayer, ObjectLayer
from mtx.infra.dal.remote_url_check import checked_url, is_url
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    from mtx.infra.dal.remote.filesystem import RemoteFolder

CACHE = "~/.cache/mtx/remote"
FORMAT_VERSION = 1  # version of the folder layout; version 1 writes no VERSION_FILE, later versions must write it
VERSION_FILE = "mtx-store.json"
CacheGB = Annotated[float, Field(gt=0)]
WORK_LOCK = ".lock"  # lock file in a subfolder of `scratch`; its owner holds the lock, so `task=gc` keeps the folder


class Store:
    """A store: datasets in `root/datasets`, and artifacts in `root/tokenizers`, `root/words` and `root/models`.

    Args:
        root: the folder of the store, created at the first write; `~` is the home folder. Or the URL of a remote store,
            such as `s3://bucket/prefix`, with manifests and Arrow files in the bucket and copies in `cache`.
        objects: class or function that returns the layer for manifests; called with `location=`.
        files: class or function that returns the layer for payloads; called with `location=`.
        datasets: subfolder of `root` for datasets. Options that store manifests in different formats, but payloads in
            the same format, need different subfolders.
        cache: folder for copies from remote stores, with one subfolder per store.
        cache_gb: bound of the copies of payload of a remote store, in 10⁹ bytes; None: there is no bound. See
            `LocalCopies`.

    Attributes:
        root: the local folder; for a remote store, the folder of its copies.
        location: the folder or the URL for messages, without credentials.

    Raises:
        ConfigError: `root` is empty or a file.
    """

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        objects: Callable[..., ObjectLayer],
        files: Callable[..., FileLayer],
        datasets: str = "datasets",
        cache: str | os.PathLike[str] = CACHE,
        cache_gb: CacheGB | None = None,
    ) -> None:
        if not os.fspath(root):
            raise ConfigError(
                "storage.root is a folder, but is empty. Set storage.root=FOLDER, or set the variable MTX_STORE"
            )
        self._bucket: RemoteFolder | None = None
        if is_url(root):
            self._open_remote(os.fspath(root), files, expanded_path(cache).absolute(), cache_gb)
            return
        self.root = expanded_path(root).absolute()
        self.location = str(self.root)
        if self.root.is_file():
            raise ConfigError(f"storage.root is a folder, but {self.location} is a file. Set storage.root=FOLDER")
        self.repo = DatasetRepo(
            fal=files(location=self.root / datasets),
            oal=objects(location=self.root / datasets),
            before_writing=self.check_version,
        )
        self.tokenizers: ArtifactLayer = FolderArtifactLayer(location=self.root / "tokenizers")
        self.words: ArtifactLayer = FolderArtifactLayer(location=self.root / "words")
        self.models: ArtifactLayer = FolderArtifactLayer(location=self.root / "models")
        self.damaged = self.root / "damaged"

    def _open_remote(self, root: str, files: Callable[..., FileLayer], cache: Path, cache_gb: float | None) -> None:
        from mtx.infra.dal.remote.artifacts import RemoteArtifactLayer
        from mtx.infra.dal.remote.file_layer import RemoteFileLayer
        from mtx.infra.dal.remote.filesystem import RemoteFolder
        from mtx.infra.dal.remote.manifests import RemoteObjectLayer

        self.location = checked_url(root)
        if getattr(files, "func", files) is not ArrowFileLayer:
            raise ConfigError(
                f"a remote store, storage.root={self.location}, keeps payload as Arrow files. "
                "Choose storage=sqlite_arrow, the default, or a local folder with storage.root=FOLDER"
            )
        self.root = cache / digest(self.location)
        self._bucket = RemoteFolder(self.location)

        def bundles(name: str) -> RemoteArtifactLayer:
            return RemoteArtifactLayer(location=f"{self.location}/{name}", cache=self.root / name)

        datasets = f"{self.location}/datasets"
        self.repo = DatasetRepo(
            fal=RemoteFileLayer(location=datasets, cache=self.root / "datasets", cache_gb=cache_gb),
            oal=RemoteObjectLayer(location=datasets),
            before_writing=self.check_version,
        )
        self.tokenizers, self.words, self.models = bundles("tokenizers"), bundles("words"), bundles("models")
        self.damaged = self.root / "damaged"

    def check_version(self) -> None:
        """Check that this version of mtx knows the store's layout. Raises NewerFormatError or DamagedError."""
        path = f"{self.location}/{VERSION_FILE}"
        try:
            content = self._marker()
            if content is None:
                return
            marker = json.loads(content)
        except (OSError, ValueError, RecursionError) as error:
            raise_if_exhausted(error)
            raise DamagedError(
                f"{path}, which tells the store's version, cannot be read: {library_reason(error)}"
            ) from error
        if not isinstance(marker, dict):
            raise DamagedError(f"{path}, which tells the store's version, holds no JSON object")
        format_version(marker, f"the store {self.location}", FORMAT_VERSION)

    def _marker(self) -> bytes | None:
        if self._bucket is not None:
            return self._bucket.read(VERSION_FILE)
        path = self.root / VERSION_FILE
        return path.read_bytes() if path.exists() else None

    @property
    def artifacts(self) -> dict[str, ArtifactLayer]:
        """The layers of all artifacts by the names of their folders."""
        return {"tokenizers": self.tokenizers, "words": self.words, "models": self.models}

    def scratch(self) -> Path:
        """Return the folder for temporary files of running stages, on the same disk as the store."""
        return make_folder(self.root / "scratch")
