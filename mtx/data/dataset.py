"""The dataset that every stage takes and returns: a manifest and its payload."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, cast, get_args

import pyarrow as pa

from mtx.errors import DamagedError
from mtx.identity import JSON, digest, plain
from mtx.infra.dal.base import PayloadInfo
from mtx.infra.dal.rows import ROWS_AT_ONCE, Rows
from mtx.infra.dal.sealed import SEAL, VERIFY, check_seal, format_version, sealed

Stage = Literal["raw", "filtered", "encoded"]
Split = Literal["train", "validation", "test"]
STAGES: tuple[Stage, ...] = get_args(Stage)
SPLITS: tuple[Split, ...] = get_args(Split)

FORMAT_VERSION = 2  # of the manifest. 1 had no digest of its own
# How a manifest of an older version becomes one of the next. One step a version, so that every old one is read.
UPGRADES: dict[int, Callable[[dict[str, JSON]], dict[str, JSON]]] = {1: lambda manifest: manifest}


@dataclass(frozen=True, kw_only=True)
class TranslationDataset:
    """Pairs of texts (or of token ids) with where they came from. Immutable.

    Args:
        name: what people call it, such as `opus100`.
        stage: `raw` as downloaded, `filtered` as cleaned and split, `encoded` as token ids.
        split: `train`, `validation` or `test`.
        languages: source and target language, as the source calls them.
        data: the rows. Raw and filtered rows have `src` and `tgt` (str); encoded rows have `source_ids` and
            `target_ids` (list of int) and `num_target_bytes` (UTF-8 bytes of the target text). An iterator of record
            batches or of rows is stored as it comes. None in a manifest.
        id: the dataset's name in the store; empty: made from all else, the rows included, which takes reading them
            once. Rows that come from an iterator need one.
        n: number of rows; None: counted from `data`.
        provenance: what it was made from: ids of inputs and config of the component, as JSON.
        metrics: what was counted while making it, as JSON.
        payload: what was written, once stored.
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

    def __post_init__(self) -> None:
        for name, value, known in (("stage", self.stage, STAGES), ("split", self.split, SPLITS)):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, but is {value!r}")
        if isinstance(self.languages, str) or len(self.languages) != 2:
            raise ValueError(f"languages are two, source and target, but are {self.languages!r}")
        object.__setattr__(self, "languages", tuple(self.languages))
        if isinstance(self.data, pa.Table):
            object.__setattr__(self, "data", Rows(self.data))
        if self.n is None and isinstance(self.data, Sequence):
            object.__setattr__(self, "n", len(self.data))
        if isinstance(self.data, Rows) and self.n != len(self.data):
            raise ValueError(f"n is the number of rows, {len(self.data)}, but is {self.n}")
        if not self.id:
            if self.data is not None and not isinstance(self.data, Sequence):
                raise ValueError(
                    f"a dataset whose rows come from a {type(self.data).__name__} needs an id: "
                    "naming it by its content would use the rows up. Pass id=…, or a sequence as data"
                )
            # The number is part of all names given so far: it stays when the manifest's format changes.
            content = [{"format_version": 1, **self._fields()}, rows_digest(self.data or ())]
            object.__setattr__(self, "id", f"{self.stage}-{self.split}-{digest(content)}")

    def __len__(self) -> int:
        return self.n or 0

    @property
    def rows(self) -> Rows:
        """The rows of a stored dataset, with their Arrow table. Raises TypeError where they are not stored."""
        if not isinstance(self.data, Rows):
            raise TypeError(f"{self.id} has no stored rows; get it from its repository")
        return self.data

    def to_manifest(self) -> dict[str, JSON]:
        """Return everything but the rows, as JSON, with a digest of it."""
        return sealed({"format_version": FORMAT_VERSION, **self._fields()})

    @classmethod
    def from_manifest(cls, manifest: JSON, data: Any | None = None) -> "TranslationDataset":
        """Make a dataset from its manifest, of this format or an older one.

        Raises DamagedError where it is none, and NewerFormatError.
        """
        fields = _upgraded(manifest)
        names = {f.name for f in dataclasses.fields(cls)} - {"data"}
        if fields.keys() != names:
            raise DamagedError(
                f"the manifest of {fields.get('id')!r} lacks or adds fields: {sorted(fields.keys() ^ names)}. {VERIFY}"
            )
        try:
            written = fields.pop("payload")
            payload = PayloadInfo(**cast(dict[str, Any], written)) if written else None
            return cls(data=data, payload=payload, **cast(dict[str, Any], fields))
        except (TypeError, ValueError) as error:
            raise DamagedError(f"the manifest of {fields.get('id')!r} is not valid: {error}. {VERIFY}") from error

    def _fields(self) -> dict[str, JSON]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "data"}
        return cast(dict[str, JSON], plain(fields))


def _upgraded(manifest: JSON) -> dict[str, JSON]:
    """Return the fields of a manifest as this version has them. Raises DamagedError, or NewerFormatError."""
    if not isinstance(manifest, dict):
        raise DamagedError(f"a manifest is an object of fields, but this one is a {type(manifest).__name__}. {VERIFY}")
    what = f"the manifest of {manifest.get('id')!r}"
    version = format_version(manifest, what, FORMAT_VERSION)
    if version > 1 or SEAL in manifest:
        check_seal(manifest, what)
    fields = {name: value for name, value in manifest.items() if name not in ("format_version", SEAL)}
    for step in range(version, FORMAT_VERSION):
        fields = UPGRADES[step](fields)
    return fields


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Hash rows by their values, in bounded memory: the same for a list of dicts and for `Rows` of any chunks."""
    sha256 = hashlib.sha256()
    items = iter(rows)
    while block := list(islice(items, ROWS_AT_ONCE)):
        sha256.update(json.dumps(block, sort_keys=True, separators=(",", ":"), default=plain).encode())
    return sha256.hexdigest()
