"""The base classes of sources of parallel text (`Downloader`), and the source that reads the Hugging Face Hub."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from random import Random
from typing import Any, ClassVar, Self

import pyarrow as pa

from mtx.components.checked_options import Count, Seconds, component
from mtx.components.identity import JSON, LATER, digest, identity
from mtx.errors import SourceError, choices
from mtx.infra.dal.chunked_columns import regrouped_batches
from mtx.infra.dataset.column_detection import Columns, RequestedColumns, find_columns, schema_keys
from mtx.infra.dataset.extra_columns import ExtraColumns, plain_columns
from mtx.infra.dataset.hub.hub_errors import endpoint
from mtx.infra.dataset.hub.pinned_dataset import (
    COMMIT,
    PinnedDataset,
    open_splits,
    pinned_commit,
    schema_of,
    split_names,
    tables_of,
)
from mtx.infra.dataset.hub.retry import RetryPolicy
from mtx.infra.dataset.pair_stream import (
    PAIR_SCHEMA,
    ROWS_PER_BATCH,
    OnError,
    Refusals,
    pairs_of_batch,
)
from mtx.infra.dataset.piece_reader import PieceReader

__all__ = ["PAIR_SCHEMA", "ROWS_PER_BATCH", "Downloader", "HFDatasetDownloader", "RemoteDownloader", "SourceInfo"]


@dataclass(frozen=True)
class SourceInfo:
    """The description of a source's content, which `Downloader.info` determines.

    Attributes:
        name: name of the source in tables and reports.
        languages: source and target language.
        revision: value that identifies the version of the content: a digest, a commit, or a version number.
        identity: the config fields that decide the pairs, and the revision. The id of the raw dataset is a hash of
            them.
        splits: the splits of the source, out of `train`, `validation`, `test`; always includes `train`.
        provenance: other facts about the source that the manifest records. They are not part of the id.
    """

    name: str
    languages: tuple[str, str]
    revision: str
    identity: Mapping[str, JSON]
    splits: tuple[str, ...]
    provenance: Mapping[str, JSON] = field(default_factory=dict)


class Downloader(ABC):
    """Base class of sources of parallel text.

    Subclasses are frozen dataclasses whose fields are the config. The constructor does no I/O. Instances must be
    picklable. Only one process at a time reads from an instance.
    """

    @abstractmethod
    def info(self) -> SourceInfo:
        """Return the description of the source. May read files or the network.

        Raises SourceError if the source fails.
        """

    @abstractmethod
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield one split as record batches, in the source's order.

        The first columns are those of `PAIR_SCHEMA`; extra columns follow. All batches have the same columns and types.
        Extra columns may contain nulls. Raises SourceError if the source cannot be read.

        Args:
            split: `train`, `validation` or `test`.
            counts: the number of rows left out, by reason; the method increases the counts during reading.
        """

    def piece_reader(self, split: str, piece_bytes: int) -> PieceReader | None:
        """Return what reads pieces of a split of about so many bytes of text; None if the split is read in one pass."""
        del split, piece_bytes
        return None

    def joined_pieces(
        self, split: str, batches: Iterator[pa.RecordBatch], counts: dict[str, int]
    ) -> Iterator[pa.RecordBatch]:
        """Yield the pairs of all pieces, as `batches` does, after the checks that need all of them.

        Args:
            split: the split.
            batches: the pairs of all pieces, in order.
            counts: the number of rows left out, by reason.
        """
        del split, counts
        return batches

    @property
    def parts(self) -> Mapping[str, "Downloader"]:
        """The component sources by name, in order. A source without components is its only part, with an empty name."""
        return {"": self}

    @property
    def original(self) -> "Downloader":
        """The underlying source, if this source wraps another source; otherwise the source itself."""
        return self

    @property
    def part_infos(self) -> Mapping[str, SourceInfo]:
        """The `info()` of each part, by name. Raises SourceError if a part cannot be read."""
        return {"": self.info()}

    @property
    def part_directions(self) -> Mapping[str, tuple[str, str]]:
        """The direction of each part by name, if `datamodule.directions` has chosen it; otherwise empty."""
        return {}

    @property
    def is_weighted(self) -> bool:
        """Whether an epoch draws pairs from the parts by weights. If False, an epoch contains every pair once."""
        return False

    @property
    def sampling(self) -> dict[str, JSON]:
        """The options that decide how often an epoch draws pairs of each part; empty: every pair once."""
        return {}

    def cap(self, name: str, split: str) -> int | None:
        """Return the maximum number of pairs taken from a split of the part `name`; None: all pairs."""
        return None

    def named_errors(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that adds the name of the part and its config keys to errors raised inside."""
        return nullcontext()

    def with_parts(self, change: Callable[["Downloader"], "Downloader"]) -> "Downloader":
        """Return a copy in which each part is replaced by the result of `change` for that part."""
        return change(self)

    def check_unchanged(self) -> None:  # noqa: B027  # a source at a fixed revision cannot change
        """Raise SourceError if the source has changed since `info` described it; by default, no change is known."""

    def with_stored_parts(self, names: Collection[str]) -> "Downloader":
        """Return a copy that knows which parts are stored, so that it need not read the source; `names` are theirs."""
        return self

    def download(self, split: str = "train") -> Iterator[dict[str, str]]:
        """Yield one split as rows with `src` and `tgt`."""
        for batch in self.batches(split, {}):
            yield from batch.to_pylist()


class RemoteDownloader(Downloader):
    """Base class of sources on a server. `mtx.data.revision_caching_downloader` keeps their last known revision."""

    @property
    @abstractmethod
    def revision_key(self) -> dict[str, JSON]:
        """The config fields that decide the result of `info()`, the requested revision, and the server's URL."""

    @property
    @abstractmethod
    def pinned_revision(self) -> str | None:
        """The revision, if the config fixes it for ever; None if the config names a branch or tag that can change."""

    @abstractmethod
    def newest_revision(self, patience_s: float) -> str:
        """Ask the server for the current revision of what the config names, and return the revision.

        Args:
            patience_s: maximum time for retries in seconds.

        Raises SourceError, and its subclass UnreachableError if the server does not answer or offline mode forbids
        requests.
        """

    @abstractmethod
    def at_revision(self, revision: str) -> Self:
        """Return a copy of the source that is fixed to `revision`, without a request to the server."""

    @abstractmethod
    def pinned_info(self, languages: tuple[str, str], splits: tuple[str, ...]) -> SourceInfo:
        """Return the `info()` of a source with a fixed revision and known languages and splits, without a request."""


@component("downloader")
class HFDatasetDownloader(RemoteDownloader):
    """Streams a dataset of the Hugging Face Hub in one process. The first call fixes the commit for all later calls.

    The downloader never runs code from the repository. It stores no files on disk, so the first n rows of a large file
    need no download of the whole file. If a request for a byte range fails or returns too few bytes, only that range is
    requested again. JSON Lines and CSV files are read from start to end and compared with the repository's digest.
    Parquet files are read column by column, and compared with their page checksums if they have any. With n, the rest
    of a file is neither read nor checked.

    Args:
        dataset: name of the dataset on the Hub, such as `Helsinki-NLP/opus-100`.
        language: name of the dataset's configuration, often a language pair such as `de-en`. None: the only
            configuration.
        split: the split to train on.
        n: take only the first n rows of the training split, after shuffling. None: all rows.
        shuffle: shuffle the training split with a buffer before taking n rows. The selected rows also depend on the
            version of the library `datasets`.
        buffer_size: number of rows in the shuffle buffer; higher mixes better and uses more memory.
        seed: random seed of the shuffling.
        revision: a branch, a tag or a commit. None: the newest commit of the main branch.
        source_language: name of the source language in the dataset. None: the first language in `language`.
        target_language: name of the target language in the dataset. None: the other language in `language`.
        source_column: name of the column with the source text. None: found among objects in `translation`, `src`/`tgt`,
            `source`/`target`, and columns with the names of the languages.
        target_column: name of the column with the target text. None: found as for `source_column`.
        columns: other columns to keep: `none`, `all`, a list of names, or a mapping of names to types. A type is `str`,
            `int`, `float`, `bool`, `timestamp`, or None for the type in the dataset.
        validation_split: the split for validation, which is used completely. `auto`: `validation`, `valid`, `dev` or
            `val`, if the dataset has one. None: pairs of the training split are held out instead.
        test_split: the split for testing, which is used completely. `auto`: `test`, if the dataset has it. None: pairs
            of the training split are held out instead.
        on_error: `raise` raises an error at the first row without two texts; `skip` leaves out and counts such rows.
        verify: compare the number of rows with the dataset's card. Set false if the card is out of date.
        patience_s: retry a request for this many seconds after a temporary error of the Hub. The limit applies to each
            request.
    """

    kind: ClassVar[str] = "downloader/hf"
    version: ClassVar[int] = 1

    dataset: str
    language: str | None = None
    split: str = "train"
    n: Count | None = None
    shuffle: bool = False
    buffer_size: Count = 10_000
    seed: int = 0
    revision: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    columns: ExtraColumns = field(default="none", metadata=LATER)
    validation_split: str | None = "auto"
    test_split: str | None = "auto"
    on_error: OnError = "raise"
    verify: bool = True
    patience_s: Seconds = 300.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", plain_columns(self.columns))

    def info(self) -> SourceInfo:
        """Request the commit, the splits and the columns from the Hub. Raises SourceError if a request fails."""
        info = self.at_revision(self._pinned_dataset.commit).pinned_info(self._columns.languages, tuple(self._names))
        pinned = self._pinned_dataset
        found: dict[str, JSON] = {} if pinned.name == self.dataset else {"renamed_to": pinned.name}
        return replace(info, provenance={**found, "licences": list(pinned.licences)} if pinned.licences else found)

    @property
    def revision_key(self) -> dict[str, JSON]:
        """The fields that decide languages, splits and rows, and a digest of the Hub's URL.

        The URL itself is left out, because it may contain a password.
        """
        return {**self._identity, "revision": self.revision, "endpoint": digest(endpoint())}

    @property
    def pinned_revision(self) -> str | None:
        """The commit, if `revision` is a full commit hash of 40 digits; otherwise None."""
        return self.revision if COMMIT.fullmatch(self.revision or "") else None

    def newest_revision(self, patience_s: float) -> str:
        """Ask the Hub for the commit that `revision` names now. Raises SourceError, or UnreachableError."""
        instead = "then it uses the last revision that the store has recorded"
        policy = RetryPolicy(min(patience_s, self.patience_s), Random(self.seed), instead)
        return pinned_commit(self.dataset, self.revision, policy).commit

    def at_revision(self, revision: str) -> Self:
        """Return a copy of the downloader with `revision` as its revision."""
        return replace(self, revision=revision)

    def pinned_info(self, languages: tuple[str, str], splits: tuple[str, ...]) -> SourceInfo:
        """Return the description of the dataset at the commit in `revision`, without a request to the Hub."""
        commit = self.pinned_revision
        assert commit is not None
        return SourceInfo(
            name=self.dataset if self.language is None else f"{self.dataset}/{self.language}",
            languages=languages,
            revision=commit,
            identity={**self._identity, "commit": commit, "languages": list(languages)},
            splits=splits,
        )

    @property
    def _identity(self) -> dict[str, JSON]:
        """The config fields that decide which rows a commit yields."""
        unused = () if self.shuffle else ("buffer_size", "seed")
        shuffler: dict[str, JSON] = {"datasets": version("datasets")} if self.shuffle else {}
        return {**identity(self, exclude=("revision", "verify", "patience_s", *unused)), **shuffler}

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield one split. The shuffle buffer bounds the memory. Raises SourceError if the split cannot be read."""
        if split not in self._names:
            raise SourceError(f"{self.dataset} has no {split} split; present: {choices(split, self._names)}")
        yield from regrouped_batches(
            self._read(self._names[split], Refusals(self.on_error, counts), train=split == "train")
        )

    def _read(self, name: str, refusals: Refusals, *, train: bool) -> Iterator[pa.RecordBatch]:
        columns, limit = self._columns, self.n if train else None
        data = self._splits[name]
        texts = [columns.parent] if columns.parent else [columns.source, columns.target]
        data = data.select_columns([*texts, *columns.extra.names])
        if train and self.shuffle:
            data = data.shuffle(seed=self.seed, buffer_size=self.buffer_size)
        where, row = f"{self.dataset}, split {name}", 1
        for table in tables_of(data, self.dataset, limit):
            for batch in table.to_batches():
                yield pairs_of_batch(batch, columns, where=where, first_row=row, refusals=refusals, limit=None)
                row += batch.num_rows
        self._check_rows(name, row - 1, limit)

    def _check_rows(self, name: str, num_rows: int, limit: int | None) -> None:
        """Raise SourceError if the number of rows differs from the dataset's card."""
        said = self._splits[name].info.splits
        expected = said[name].num_examples if said and name in said else None
        if expected is not None and limit is not None:
            expected = min(expected, limit)
        if self.verify and expected is not None and num_rows != expected:
            raise SourceError(
                f"the split {name!r} of the dataset {self.dataset} has {expected:,} rows by its card, but "
                f"{num_rows:,} were read. Run again; if the card is out of date, set downloader.verify=false"
            )
        if not num_rows:
            raise SourceError(f"the split {name!r} of the dataset {self.dataset} has no rows. Choose another split")

    @cached_property
    def _pinned_dataset(self) -> PinnedDataset:
        return pinned_commit(self.dataset, self.revision, self._retry_policy)

    @cached_property
    def _splits(self) -> dict[str, Any]:
        return open_splits(self.dataset, self.language, self._pinned_dataset.commit, self._retry_policy)

    @cached_property
    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.patience_s, Random(self.seed))

    @cached_property
    def _names(self) -> dict[str, str]:
        """The dataset's own name of each split. Raises SourceError if a split that the config names is missing."""
        named = {"train": self.split, "validation": self.validation_split, "test": self.test_split}
        return split_names(self.dataset, self._splits, named)

    @cached_property
    def _columns(self) -> Columns:
        wanted = RequestedColumns(
            source_column=self.source_column,
            target_column=self.target_column,
            source_language=self.source_language,
            target_language=self.target_language,
            pair=self.language,
            extra=self.columns,
        )
        schema, where = schema_of(self._splits[self._names["train"]], self.dataset), f"the dataset {self.dataset}"
        return find_columns(schema_keys(schema), wanted, where).with_extra(schema, wanted, where)
