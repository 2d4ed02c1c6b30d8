"""The store: one folder with everything that was built, and the layers that a backend uses in it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from mtx.data.repo import DatasetRepo
from mtx.errors import ConfigError, DamagedError
from mtx.identity import digest
from mtx.infra.dal.address import checked_url, is_url
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.base import FileLayer, ObjectLayer, folder
from mtx.infra.dal.bundle import BundleLayer, FolderBundleLayer
from mtx.infra.dal.sealed import format_version

CACHE = "~/.cache/mtx/remote"
FORMAT_VERSION = 1  # of what lies where in a store. No file says so; a later version writes MARKER first
MARKER = "mtx-store.json"
AT_WORK = ".lock"  # in a folder below `scratch`: held by the process that made it, so that nobody tidies it away


class Store:
    """Datasets in `root/datasets`, tokenizers in `root/tokenizers`, words in `root/words`.

    Args:
        root: the folder; `~` stands for the home folder. Made when something is first written. Or the address of a
            remote store, such as `s3://bucket/prefix`: manifests and Arrow files in the bucket, copies in `cache`.
        objects: makes the layer for manifests, called with `location=`.
        files: makes the layer for payload, called with `location=`.
        datasets: the folder below `root` for datasets. Options that keep manifests in different ways, and payload in
            the same, need different ones.
        cache: a folder for what is read from remote stores, one folder below it for each.

    Attributes:
        root: the folder on this machine; of a remote store, that of its copies.
        location: where the store is, for people: the folder, or the address, without credentials.

    Raises ConfigError where `root` is empty.
    """

    def __init__(
        self,
        *,
        root: str | os.PathLike[str],
        objects: Callable[..., ObjectLayer],
        files: Callable[..., FileLayer],
        datasets: str = "datasets",
        cache: str | os.PathLike[str] = CACHE,
    ) -> None:
        if not os.fspath(root):
            raise ConfigError("storage.root is a folder, but is empty. Set storage.root=FOLDER, or MTX_STORE to one")
        if is_url(root):
            self._open_remote(os.fspath(root), files, Path(cache).expanduser().absolute())
            return
        self.root = Path(root).expanduser().absolute()
        self.location = str(self.root)
        self.repo = DatasetRepo(
            fal=files(location=self.root / datasets),
            oal=objects(location=self.root / datasets),
            before_writing=self.check_version,
        )
        self.tokenizers: BundleLayer = FolderBundleLayer(location=self.root / "tokenizers")
        self.words: BundleLayer = FolderBundleLayer(location=self.root / "words")
        self.damaged = self.root / "damaged"

    def _open_remote(self, root: str, files: Callable[..., FileLayer], cache: Path) -> None:
        from mtx.infra.dal.remote_bundle import RemoteBundleLayer
        from mtx.infra.dal.remote_layers import RemoteFileLayer, RemoteObjectLayer

        self.location = checked_url(root)
        if getattr(files, "func", files) is not ArrowFileLayer:
            raise ConfigError(
                f"a remote store, storage.root={self.location}, keeps payload as Arrow files. "
                "Choose storage=sqlite_arrow, the default, or a folder with storage.root=FOLDER"
            )
        self.root = cache / digest(self.location)

        def bundles(name: str) -> RemoteBundleLayer:
            return RemoteBundleLayer(location=f"{self.location}/{name}", cache=self.root / name)

        datasets = f"{self.location}/datasets"
        self.repo = DatasetRepo(
            fal=RemoteFileLayer(location=datasets, cache=self.root / "datasets"),
            oal=RemoteObjectLayer(location=datasets),
            before_writing=self.check_version,
        )
        self.tokenizers, self.words = bundles("tokenizers"), bundles("words")
        self.damaged = self.root / "damaged"

    def check_version(self) -> None:
        """Look whether this mtx knows the store's layout. Raises NewerFormatError, or DamagedError."""
        path = f"{self.location}/{MARKER}"
        try:
            content = self._marker()
            if content is None:
                return
            marker = json.loads(content)
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedError(f"{path}, which tells the store's version, cannot be read: {error}") from error
        if not isinstance(marker, dict):
            raise DamagedError(f"{path}, which tells the store's version, holds no JSON object")
        format_version(marker, f"the store {self.location}", FORMAT_VERSION)

    def _marker(self) -> bytes | None:
        if is_url(self.location):
            from mtx.infra.dal.remote import RemoteFolder

            return RemoteFolder(self.location).read(MARKER)
        path = self.root / MARKER
        return path.read_bytes() if path.exists() else None

    def scratch(self) -> Path:
        """Return the folder for temporary files of stages under way, on the same disk."""
        return folder(self.root / "scratch")
