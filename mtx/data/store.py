"""The store: one folder with everything that was built, and the layers that a backend uses in it."""

import os
from collections.abc import Callable
from pathlib import Path

from mtx.data.repo import DatasetRepo
from mtx.errors import ConfigError
from mtx.infra.dal.base import FileLayer, ObjectLayer, folder


class Store:
    """Datasets in `root/datasets`, tokenizers in `root/tokenizers`.

    Args:
        root: the folder; `~` stands for the home folder. Made when something is first written.
        objects: makes the layer for manifests, called with `location=`.
        files: makes the layer for payload, called with `location=`.

    Raises ConfigError where `root` is empty.
    """

    def __init__(
        self, *, root: str | os.PathLike[str], objects: Callable[..., ObjectLayer], files: Callable[..., FileLayer]
    ) -> None:
        if not os.fspath(root):
            raise ConfigError("storage.root is a folder, but is empty. Set storage.root=FOLDER, or MTX_STORE to one")
        self.root = Path(root).expanduser().absolute()
        self.repo = DatasetRepo(
            fal=files(location=self.root / "datasets"), oal=objects(location=self.root / "datasets")
        )
        self.tokenizers = self.root / "tokenizers"

    def scratch(self) -> Path:
        """Return the folder for temporary files of stages under way, on the same disk."""
        return folder(self.root / "scratch")
