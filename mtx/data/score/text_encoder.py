"""Encoders of texts into vectors for the scorer `embeddings`: the base class, and models of sentence-transformers."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mtx.components.checked_options import Count, component
from mtx.components.identity import ID_DIGITS, JSON
from mtx.errors import ConfigError

KEY = "score.embeddings.encoder"
INSTALL_COMMAND = 'pip install "mtx[embeddings]"'


class TextEncoder(ABC):
    """Base class of encoders, which give each text a vector; texts of similar meaning have similar directions.

    Subclasses are frozen dataclasses of plain values, picklable and without state, as scorers are. A class without
    `version` is named by the digest of its code.
    """

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        """Return a vector for each text: float [n, d], of any length. The vector of a text depends on this text alone.

        A vector of zeros, as for an empty text, gives a cosine of 0; one that is not finite gives no score.
        """

    def check(self) -> None:  # noqa: B027 # most encoders need nothing
        """Check that the encoder can work here. Raises ConfigError, which says what is missing."""


@component("score.embeddings.encoder")
class SentenceTransformersEncoder(TextEncoder):
    """Encodes texts with a model of sentence-transformers in a local folder, such as LaBSE or LASER-like models.

    The last digits of a vector may depend on the texts in the same batch.

    Args:
        folder: the folder of the model, as `SentenceTransformer.save` writes it; nothing is downloaded.
        batch_size: number of texts that the model reads at once.
        device: device of the model, such as `cuda`; None: a GPU if there is one.
    """

    kind: ClassVar[str] = "encoder/sentence_transformers"
    version: ClassVar[int] = 1

    folder: str
    batch_size: Count = 64
    device: str | None = None

    def identity_fields(self) -> dict[str, JSON]:
        """Return a digest of the files of the model: their place and the device do not count."""
        files = _files(Path(self.folder))
        return {
            "content": _folder_digest(
                self.folder, tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in files)
            )
        }

    def check(self) -> None:
        """Check that the package is installed, and that the folder has files. Raises ConfigError."""
        if find_spec("sentence_transformers") is None:
            raise ConfigError(
                f"{KEY} needs the package sentence-transformers, which is not installed. Run {INSTALL_COMMAND}"
            )
        _files(Path(self.folder))

    def encode(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        """Return the vectors of the texts."""
        self.check()
        model = _model(self.folder, self.device, str(self.identity_fields()["content"]))
        found: NDArray[np.floating[Any]] = model.encode(
            list(texts), batch_size=self.batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        return found


@lru_cache(maxsize=1)
def _model(folder: str, device: str | None, content: str) -> Any:
    del content  # part of the key, so that a changed model is loaded again
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, device=device, local_files_only=True)


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    if not files:
        raise ConfigError(
            f"{KEY}.folder must be a folder with a model of sentence-transformers, but {folder} is "
            f"{'empty' if folder.is_dir() else 'no folder'}. Set {KEY}.folder=FOLDER"
        )
    return files


@lru_cache(maxsize=4)
def _folder_digest(folder: str, stamps: tuple[tuple[int, int], ...]) -> str:
    del stamps  # part of the key, so that a changed model is read again
    sha256 = hashlib.sha256()
    for path in _files(Path(folder)):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        sha256.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode("utf-8", "surrogateescape"))
    return sha256.hexdigest()[:ID_DIGITS]
