"""Where pairs enter: what every source promises, and the Hugging Face Hub."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mtx.identity import JSON
from mtx.infra.dataset.pairs import PAIR_SCHEMA, ROWS_PER_BATCH

__all__ = ["PAIR_SCHEMA", "ROWS_PER_BATCH", "Downloader", "SourceInfo"]


@dataclass(frozen=True)
class SourceInfo:
    """What a source is, as found by asking it.

    Attributes:
        name: what people call it.
        languages: source and target language.
        revision: what pins its content: a digest, a commit, a version.
        identity: the config that decides what comes out, and the revision; hashed into the raw dataset's id.
        splits: the splits it has, of `train`, `validation`, `test`; always with `train`.
    """

    name: str
    languages: tuple[str, str]
    revision: str
    identity: Mapping[str, JSON]
    splits: tuple[str, ...]


class Downloader(ABC):
    """A source of parallel text.

    Subclasses are frozen dataclasses: fields are the config, construction does no I/O. They are picklable, and one
    process at a time reads from one.
    """

    @abstractmethod
    def info(self) -> SourceInfo:
        """Ask the source what it is. May read files or the network. Raises SourceError."""

    @abstractmethod
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream one split as record batches of `PAIR_SCHEMA`, in the source's order.

        Rows that are left out are counted in `counts` by reason as they are met. Raises SourceError.
        """

    def download(self, split: str = "train") -> Iterator[dict[str, str]]:
        """Stream one split as rows with `src` and `tgt`."""
        for batch in self.batches(split, {}):
            yield from batch.to_pylist()
