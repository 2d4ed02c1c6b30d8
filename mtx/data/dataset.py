"""`TranslationDataset`, which every stage takes and returns: a manifest (JSON metadata) and a payload (the rows)."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from mtx.components.identity import JSON, digest, plain_value
from mtx.errors import DamagedError
from mtx.infra.dal.manifest_digest import DIGEST_KEY, VERIFY_HINT, check_digest, fields_with_digest, format_version
from mtx.infra.dal.protocols import PayloadInfo
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    from mtx.infra.dal.arrow_rows import Rows

Stage = Literal["raw", "text", "split", "scores", "filtered", "encoded"]
Split = Literal["train", "validation", "test"]
STAGES: tuple[Stage, ...] = get_args(Stage)
SPLITS: tuple[Split, ...] = get_args(Split)

# Format version of the manifest. Version 1 has no digest of the manifest. Before version 3, every dataset stored its
# own rows. Before version 4, manifests have no digests of shards.
FORMAT_VERSION = 4
FIRST_FORMAT_WITH_THESE_NAMES = 3  # the first format version in which stages name datasets as they do now
# The step from format version N of a manifest to version N + 1. The steps are chained, so every old version is
# readable.
UPGRADES: dict[int, Callable[[dict[str, JSON]], dict[str, JSON]]] = {
    1: lambda manifest: manifest,
    2: lambda manifest: {**manifest, "selects": [], "changes": "", "shards": []},
    3: lambda manifest: {**manifest, "shards": []},  # shards without a digest cannot be verified
}


@dataclass(frozen=True)
class SelectedDataset:
    """A dataset from which another dataset selects rows.

    Attributes:
        id: id of the dataset.
        num_rows: only the first `num_rows` rows of the dataset can be selected.
        source: index of the dataset's source in the mixture; None for a single source.
    """

    id: str
    num_rows: int
    source: int | None = None


@dataclass(frozen=True)
class Shard:
    """The rows that one task of a stage wrote. The rows of a dataset are those of its shards, one after the other.

    Attributes:
        first: number of the first input row of the task, inclusive.
        end: number of the last input row of the task, exclusive.
        num_rows: number of rows that the task wrote.
        num_bytes: bytes that the values of these rows take (`RowDigest.num_bytes`).
        sha256: SHA-256 of the values of these rows in hex, the same for every file format (`RowDigest`).
    """

    first: int
    end: int
    num_rows: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TranslationDataset:
    """Pairs of texts or of token ids, with their metadata and provenance. Immutable.

    Args:
        name: display name, such as `opus100`.
        stage: the stage that wrote the dataset: `raw` (as downloaded), `text` (normalised), `split` (assigned to a
            split), `scores`, `filtered`, or `encoded` (token ids).
        split: `train`, `validation` or `test`.
        languages: source and target language, as the source names them.
        data: the rows; None in a manifest. Rows of text have `src` and `tgt` (str) and any further columns of the
            source. Encoded rows have `source_ids` and `target_ids` (list of int), `num_source_bytes` and
            `num_target_bytes` (UTF-8 bytes of the texts). An iterator of record batches or rows is stored as a stream.
        id: id of the dataset in the store. Empty: computed as a hash of all other fields and the rows, which reads the
            rows once; not possible if `data` is an iterator.
        n: number of rows; None: counted from `data`.
        provenance: what the dataset was built from, as JSON: ids of the inputs and the config of the component.
        metrics: counts of the stage, as JSON.
        payload: size and SHA-256 of the stored rows; None before the dataset is stored.
        selects: datasets whose concatenated rows this dataset selects from; the payload holds only the column `row`
            with the selected row numbers. Empty: the payload holds the rows themselves.
        changes: id of the dataset that this dataset is a patch of; the payload holds only the changed rows, with the
            column `row`. Empty: the dataset is no patch.
        shards: the rows that each task of the stage wrote, in order; empty if there was one task. Read after the last
            row was written, like `metrics`.
    """

    name: str
    stage: Stage
    split: Split
    languages: tuple[str, str]
    data: Sequence[Mapping[str, Any]] | Any | None = field(default=None, repr=False)
    id: str = ""
    n: int | None = None
    provenance: Mapping[str, JSON] = field(default_factory=dict)
    metrics: Mapping[str, JSON] = field(default_factory=dict)
    payload: PayloadInfo | None = None
    selects: tuple[SelectedDataset, ...] = ()
    changes: str = ""
    shards: Sequence[Shard] = ()

    def __post_init__(self) -> None:
        for name, value, known in (("stage", self.stage, STAGES), ("split", self.split, SPLITS)):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, but is {value!r}")
        if isinstance(self.languages, str) or len(self.languages) != 2:
            raise ValueError(f"languages are two, source and target, but are {self.languages!r}")
        object.__setattr__(self, "languages", tuple(self.languages))
        if self.data is not None:  # do not import Arrow for manifests, which have no rows
            self._take_data()
        if not self.id:
            if self.data is not None and not isinstance(self.data, Sequence):
                raise ValueError(
                    f"a dataset needs an id if its rows come from a {type(self.data).__name__}, "
                    "because computing the id from the rows would consume them. Pass id=…, or pass a sequence as data"
                )
            # `format_version` stays 1 here: it is part of every existing id, which must not change with the manifest's
            # format.
            later = ("selects", "changes", "shards")
            fields = {name: value for name, value in self._fields().items() if name not in later}
            content = [{"format_version": 1, **fields}, rows_digest(self.data or ())]
            object.__setattr__(self, "id", f"{self.stage}-{self.split}-{digest(content)}")

    def _take_data(self) -> None:
        """Wrap an Arrow table in `Rows`, and set `n`. Raises ValueError if `n` is not the number of rows."""
        import pyarrow as pa

        from mtx.infra.dal.arrow_rows import Rows

        if isinstance(self.data, pa.Table):
            object.__setattr__(self, "data", Rows(self.data))
        if self.n is None and isinstance(self.data, Sequence):
            object.__setattr__(self, "n", len(self.data))
        if isinstance(self.data, Rows) and self.n != len(self.data):
            raise ValueError(f"the dataset's n must be its number of rows, {len(self.data)}, but is {self.n}")

    def __len__(self) -> int:
        return self.n or 0

    @property
    def rows(self) -> "Rows":
        """The rows of a stored dataset, with their Arrow table. Raises TypeError if it is not stored."""
        from mtx.infra.dal.arrow_rows import Rows

        if not isinstance(self.data, Rows):
            raise TypeError(f"{self.id} has no stored rows. Read the dataset with DatasetRepo.get")
        return self.data

    def to_manifest(self) -> dict[str, JSON]:
        """Return the manifest: all fields except the rows, as JSON, with a digest of these fields."""
        return fields_with_digest({"format_version": FORMAT_VERSION, **self._fields()})

    @classmethod
    def from_manifest(cls, manifest: JSON, data: Any | None = None) -> "TranslationDataset":
        """Build a dataset from a manifest of this format version or an older one.

        Raises:
            DamagedError: the manifest is not valid.
            NewerFormatError: a newer version of mtx wrote the manifest.
        """
        fields = _upgraded_fields(manifest)
        names = {f.name for f in dataclasses.fields(cls)} - {"data"}
        if fields.keys() != names:
            raise DamagedError(
                f"the manifest of {fields.get('id')!r} has missing or unknown fields: {sorted(fields.keys() ^ names)}. "
                f"{VERIFY_HINT}"
            )
        try:
            known = cast(dict[str, Any], fields)
            written = known.pop("payload")
            payload = PayloadInfo(**written) if written else None
            selects = tuple(SelectedDataset(**each) for each in known.pop("selects"))
            shards = tuple(Shard(**each) for each in known.pop("shards"))
            return cls(data=data, payload=payload, selects=selects, shards=shards, **known)
        except (TypeError, ValueError) as error:
            raise DamagedError(
                f"the manifest of {fields.get('id')!r} is not valid: {library_reason(error)}. {VERIFY_HINT}"
            ) from error

    def _fields(self) -> dict[str, JSON]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "data"}
        return cast(dict[str, JSON], plain_value(fields))


def is_former(manifest: Mapping[str, JSON]) -> bool:
    """Return whether a stage of an earlier mtx wrote the manifest, under a dataset id that no run uses now."""
    version, provenance = manifest.get("format_version"), manifest.get("provenance")
    made_by_stage = isinstance(provenance, dict) and (
        "inputs" in provenance or {"revision", "source"} <= set(provenance)
    )
    return isinstance(version, int) and 1 <= version < FIRST_FORMAT_WITH_THESE_NAMES and made_by_stage


def _upgraded_fields(manifest: JSON) -> dict[str, JSON]:
    """Return the fields of a manifest, converted to the current format. Raises DamagedError or NewerFormatError."""
    if not isinstance(manifest, dict):
        raise DamagedError(
            f"a manifest must be a JSON object, but this one is a {type(manifest).__name__}. {VERIFY_HINT}"
        )
    what = f"the manifest of {manifest.get('id')!r}"
    version = format_version(manifest, what, FORMAT_VERSION)
    if version > 1 or DIGEST_KEY in manifest:
        check_digest(manifest, what)
    fields = {name: value for name, value in manifest.items() if name not in ("format_version", DIGEST_KEY)}
    for step in range(version, FORMAT_VERSION):
        fields = UPGRADES[step](fields)
    return fields


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the rows' values in hex, computed block by block in bounded memory.

    A list of dicts and `Rows` with the same values have the same digest, however the rows are chunked.
    """
    from mtx.infra.dal.arrow_rows import ROWS_AT_ONCE

    sha256 = hashlib.sha256()
    items = iter(rows)
    while block := list(islice(items, ROWS_AT_ONCE)):
        sha256.update(json.dumps(block, sort_keys=True, separators=(",", ":"), default=plain_value).encode())
    return sha256.hexdigest()


def counts_by_reason(metrics: Mapping[str, Any]) -> dict[str, list[tuple[str, int]]]:
    """Return the counts of `skipped` and of `dropped` pairs in the metrics of a dataset, the most frequent first."""
    found: dict[str, list[tuple[str, int]]] = {}
    for key in ("skipped", "dropped"):
        counts = metrics.get(key)
        known = counts.items() if isinstance(counts, dict) else ()
        found[key] = sorted(
            ((str(reason), n) for reason, n in known if isinstance(n, int) and n), key=lambda of: -of[1]
        )
    return found
