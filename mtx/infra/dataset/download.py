"""Where pairs enter: what every source promises, and the Hugging Face Hub."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from random import Random
from typing import Any, Self

import pyarrow as pa

from mtx.errors import ConfigError, SourceError, choices
from mtx.identity import JSON, digest, identity
from mtx.infra.dataset.columns import Columns, Wanted, find_columns, pair_columns, schema_keys
from mtx.infra.dataset.hub import COMMIT, Pinned, endpoint, open_splits, pinned_commit, schema_of, tables_of
from mtx.infra.dataset.pairs import PAIR_SCHEMA, ROWS_PER_BATCH, OnError, Refusals, pairs_of_arrays, regrouped
from mtx.infra.dataset.patience import Patience

__all__ = ["PAIR_SCHEMA", "ROWS_PER_BATCH", "Downloader", "HFDatasetDownloader", "RemoteDownloader", "SourceInfo"]

HELD_OUT = {"validation": ("validation", "valid", "dev", "val"), "test": ("test",)}  # what sources call these splits


@dataclass(frozen=True)
class SourceInfo:
    """What a source is, as found by asking it.

    Attributes:
        name: what people call it.
        languages: source and target language.
        revision: what pins its content: a digest, a commit, a version.
        identity: the config that decides what comes out, and the revision; hashed into the raw dataset's id.
        splits: the splits it has, of `train`, `validation`, `test`; always with `train`.
        provenance: what else is recorded of it, with no part in the id.
    """

    name: str
    languages: tuple[str, str]
    revision: str
    identity: Mapping[str, JSON]
    splits: tuple[str, ...]
    provenance: Mapping[str, JSON] = field(default_factory=dict)


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


class RemoteDownloader(Downloader):
    """A source on a server, of which the store remembers what it was when it last answered (`mtx.data.seen`)."""

    @property
    @abstractmethod
    def remembered_by(self) -> dict[str, JSON]:
        """The config that decides what `info()` says, with the revision asked for and the server's address."""

    @property
    @abstractmethod
    def pinned_to(self) -> str | None:
        """The revision that the config fixes for ever; None where it names what may move on."""

    @abstractmethod
    def newest(self, patience_s: float) -> str:
        """Ask the server for the revision that the config stands for now, for `patience_s` seconds at most.

        Raises SourceError; UnreachableError where the server does not answer or may not be asked.
        """

    @abstractmethod
    def at(self, revision: str) -> Self:
        """Return the same source at that revision. Asks nothing."""

    @abstractmethod
    def described(self, languages: tuple[str, str], splits: tuple[str, ...]) -> SourceInfo:
        """Return the `info()` of a source that is pinned and has these languages and splits. Asks nothing."""


@dataclass(frozen=True, kw_only=True)
class HFDatasetDownloader(RemoteDownloader):
    """Streams a dataset of the Hugging Face Hub, read in one process, pinned to the commit found at the first call.

    Never runs code from the repository. Nothing is kept on the disk, so the first n rows of a large file cost no more
    than they are. A range of a file that fails or comes short is asked for again, and only it. Files that are read
    from start to end, as JSON Lines and CSV are, are compared with the repository's digest; Parquet, of which only some
    columns are read, with the checksums of its pages where it has them; with n, the rest of a file is not looked at.

    Args:
        dataset: its name there, such as `Helsinki-NLP/opus-100`.
        language: its configuration, often named by the languages, such as `de-en`. None: the only one.
        split: the split to train on.
        n: take the first n rows of that split, after shuffling. None: all.
        shuffle: shuffle that split through a buffer before taking n, so that they are no longer the first n. Rows that
            come out depend on the version of the library `datasets`, too.
        buffer_size: rows in the shuffle buffer; more mixes better and uses more memory.
        seed: of the shuffling.
        revision: a branch, a tag or a commit. None: the newest on the main branch.
        source_language: as the dataset calls it. None: the first of `language`.
        target_language: as the dataset calls it. None: the other of `language`.
        source_column: the column with the source text. None: found among objects in `translation`, `src`/`tgt`,
            `source`/`target`, and columns named by the languages.
        target_column: the same for the target text.
        validation_split: the split to validate on, taken whole. `auto`: `validation`, `valid`, `dev` or `val` where
            there is one; None: none, so that pairs are held out from the training split.
        test_split: the same for testing; `auto`: `test`.
        on_error: `raise` stops at the first row without two texts; `skip` leaves such rows out and counts them.
        verify: compare the number of rows with what the dataset's card says; false where the card is out of date.
        patience_s: seconds to keep asking while the Hub fails for reasons that pass; each request has them anew.
    """

    dataset: str
    language: str | None = None
    split: str = "train"
    n: int | None = None
    shuffle: bool = False
    buffer_size: int = 10_000
    seed: int = 0
    revision: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    validation_split: str | None = "auto"
    test_split: str | None = "auto"
    on_error: OnError = "raise"
    verify: bool = True
    patience_s: float = 300.0

    def __post_init__(self) -> None:
        for key, value in (("n", self.n), ("buffer_size", self.buffer_size)):
            if value is not None and value < 1:
                raise ConfigError(f"downloader.{key} is a number of rows, at least 1, but is {value}")
        if not 0 <= self.patience_s < float("inf"):
            raise ConfigError(f"downloader.patience_s is a number of seconds, at least 0, but is {self.patience_s}")
        Refusals(self.on_error)

    def info(self) -> SourceInfo:
        """Ask the Hub for the newest commit, the splits and the columns. Raises SourceError."""
        info = self.at(self._pinned.commit).described(self._columns.languages, tuple(self._names))
        renamed: dict[str, JSON] = {} if self._pinned.name == self.dataset else {"renamed_to": self._pinned.name}
        return replace(info, provenance=renamed)

    @property
    def remembered_by(self) -> dict[str, JSON]:
        """The fields that decide languages and splits or the rows, and which Hub: its address may hold a password."""
        return {**self._identity, "revision": self.revision, "endpoint": digest(endpoint())}

    @property
    def pinned_to(self) -> str | None:
        """The commit, where `revision` is one in full."""
        return self.revision if COMMIT.fullmatch(self.revision or "") else None

    def newest(self, patience_s: float) -> str:
        """Ask the Hub for the commit that `revision` stands for now. Raises SourceError, UnreachableError."""
        patience = Patience(min(patience_s, self.patience_s), Random(self.seed))
        return pinned_commit(self.dataset, self.revision, patience).commit

    def at(self, revision: str) -> Self:
        """Return the same with another revision."""
        return replace(self, revision=revision)

    def described(self, languages: tuple[str, str], splits: tuple[str, ...]) -> SourceInfo:
        """Return what it is at the commit that `revision` is. Asks nothing."""
        commit = self.pinned_to
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
        """What decides the rows of a commit."""
        unused = () if self.shuffle else ("buffer_size", "seed")
        shuffler: dict[str, JSON] = {"datasets": version("datasets")} if self.shuffle else {}
        return {**identity(self, exclude=("revision", "verify", "patience_s", *unused)), **shuffler}

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream one split, in memory bounded by the shuffle buffer. Raises SourceError."""
        if split not in self._names:
            raise SourceError(f"{self.dataset} has no split for {split!r}; there are: {choices(split, self._names)}")
        yield from regrouped(self._read(self._names[split], Refusals(self.on_error, counts), train=split == "train"))

    def _read(self, name: str, refusals: Refusals, *, train: bool) -> Iterator[pa.RecordBatch]:
        columns, limit = self._columns, self.n if train else None
        data = self._splits[name]
        data = data.select_columns([columns.parent] if columns.parent else [columns.source, columns.target])
        if train and self.shuffle:
            data = data.shuffle(seed=self.seed, buffer_size=self.buffer_size)
        where, row = f"{self.dataset}, split {name}", 1
        for table in tables_of(data, self.dataset, limit):
            for batch in table.to_batches():
                source, target = pair_columns(batch, columns)
                yield pairs_of_arrays(source, target, where=where, first_row=row, refusals=refusals, limit=None)
                row += batch.num_rows
        self._check_rows(name, row - 1, limit)

    def _check_rows(self, name: str, num_rows: int, limit: int | None) -> None:
        """Raise SourceError where fewer or more rows came than the dataset's card says."""
        said = self._splits[name].info.splits
        expected = said[name].num_examples if said and name in said else None
        if expected is not None and limit is not None:
            expected = min(expected, limit)
        if self.verify and expected is not None and num_rows != expected:
            raise SourceError(
                f"the dataset {self.dataset} has {expected:,} rows in the split {name!r} by its card, but {num_rows:,} "
                "came. Run again; where the card is out of date, say downloader.verify=false"
            )
        if not num_rows:
            raise SourceError(f"the split {name!r} of the dataset {self.dataset} has no rows")

    @cached_property
    def _pinned(self) -> Pinned:
        return pinned_commit(self.dataset, self.revision, self._patience)

    @cached_property
    def _splits(self) -> dict[str, Any]:
        return open_splits(self.dataset, self.language, self._pinned.commit, self._patience)

    @cached_property
    def _patience(self) -> Patience:
        return Patience(self.patience_s, Random(self.seed))

    @cached_property
    def _names(self) -> dict[str, str]:
        """What the dataset calls each split that it has. Raises SourceError where one that is named is missing."""
        names = {"train": self.split}
        for split, said in (("validation", self.validation_split), ("test", self.test_split)):
            if said == "auto":
                said = next((name for name in HELD_OUT[split] if name in self._splits), None)
                said = None if said == self.split else said
            if said is not None:
                names[split] = said
        for key, name in names.items():
            if name not in self._splits:
                key = "split" if key == "train" else f"{key}_split"
                raise SourceError(
                    f"the dataset {self.dataset} has no split {name!r}; there are: {choices(name, self._splits)}. "
                    f"Name one of those with downloader.{key}=NAME"
                )
        return names

    @cached_property
    def _columns(self) -> Columns:
        wanted = Wanted(
            source_column=self.source_column,
            target_column=self.target_column,
            source_language=self.source_language,
            target_language=self.target_language,
            pair=self.language,
        )
        schema = schema_of(self._splits[self._names["train"]], self.dataset)
        return find_columns(schema_keys(schema), wanted, f"the dataset {self.dataset}")
