"""What an export consists of, and the manifest that says so: `mtx-export.json`.

    mtx-export.json                     this manifest, first in an archive
    datasets/ID.parquet                 the rows of each dataset
    tokenizers/ID/manifest.json …       the tokenizers of encoded datasets, as the store has them

A manifest that is read may come from anyone. Its values are data: checked for their types and bounds, and nothing in
them is ever imported, called or used as a path before it was compared with the forms above.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtx.data.dataset import TranslationDataset
from mtx.errors import MtxError, SourceError
from mtx.identity import JSON, plain
from mtx.infra.dal.base import is_name
from mtx.infra.dal.sealed import json_bytes

EXPORT = "mtx-export.json"
FORMAT = "mtx-export"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 26
MAX_FILES = 10_000
PATH = re.compile(r"(?:datasets/(?P<dataset>[^/]+)\.parquet|tokenizers/(?P<tokenizer>[^/]+)/(?P<file>[^/]+))")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ExportedFile:
    """One file of an export: its bytes, their SHA-256 in hex, and for rows the bytes they take once decoded."""

    num_bytes: int
    sha256: str
    decoded_bytes: int = 0


@dataclass(frozen=True)
class ExportManifest:
    """What an export holds.

    Attributes:
        datasets: without rows, inputs before what was made from them.
        files: by path below the export's folder, `/` between names.
    """

    datasets: tuple[TranslationDataset, ...]
    files: Mapping[str, ExportedFile]

    @property
    def tokenizers(self) -> list[str]:
        """The ids of the tokenizers in it, sorted."""
        found = (PATH.fullmatch(path) for path in self.files)
        return sorted({match["tokenizer"] for match in found if match and match["tokenizer"]})

    @property
    def num_bytes(self) -> int:
        """Bytes of all files, and of the rows once decoded."""
        return sum(file.num_bytes + file.decoded_bytes for file in self.files.values())

    def to_json(self) -> bytes:
        """Return it as it is written."""
        return json_bytes(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "datasets": [dataset.to_manifest() for dataset in self.datasets],
                "files": plain(self.files),
            }
        )


def rows_path(dataset_id: str) -> str:
    """Return where an export has the rows of a dataset."""
    return f"datasets/{dataset_id}.parquet"


def parse_manifest(content: bytes, source: object) -> ExportManifest:
    """Read a manifest that may come from anyone; `source` names it in messages. Raises SourceError, or DamagedError."""
    try:
        manifest: JSON = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{EXPORT} of {source} is no JSON: {error}. Export the dataset again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise SourceError(
            f'{EXPORT} of {source} is of no export that can be imported, which says "format": "{FORMAT}". '
            "Export it with format=parquet; Moses text and other files are read with downloader=local"
        )
    if manifest.get("format_version") != FORMAT_VERSION:
        raise SourceError(
            f"{source} has the export format version {manifest.get('format_version')!r}, but this mtx knows "
            f"{FORMAT_VERSION}. Import it with the mtx that wrote it, or a newer one"
        )
    files, listed = manifest.get("files"), manifest.get("datasets")
    if not isinstance(files, dict) or not isinstance(listed, list) or not listed or len(files) > MAX_FILES:
        raise SourceError(
            f"{EXPORT} of {source} lists `datasets`, at least one, and `files`, at most {MAX_FILES}, but has others. "
            "Export the dataset again"
        )
    datasets = tuple(_dataset(entry, source) for entry in listed)
    found = ExportManifest(datasets, {path: _file(path, entry, source) for path, entry in files.items()})
    _check_paths(found, source)
    return found


def _dataset(entry: JSON, source: object) -> TranslationDataset:
    """Read one dataset's manifest. Raises SourceError, or DamagedError."""
    try:
        dataset = TranslationDataset.from_manifest(entry)
    except MtxError:
        raise
    except Exception as error:  # whatever values of other types lead to
        raise SourceError(f"a dataset's manifest in {source} is not valid: {error}. Export it again") from error
    texts = (dataset.name, *dataset.languages)
    wrong = (
        "id" if not is_name(dataset.id) else "",
        "name or languages" if not all(isinstance(text, str) for text in texts) else "",
        "n" if not _is_count(dataset.n) else "",
        "provenance" if not isinstance(dataset.provenance, dict) else "",
        "metrics" if not isinstance(dataset.metrics, dict) else "",
    )
    if any(wrong):
        raise SourceError(
            f"a dataset's manifest in {source} is not valid: {', '.join(filter(None, wrong))}. "
            "An id is a file name, n a count, name and languages are texts, provenance and metrics are objects"
        )
    return dataset


def _file(path: str, entry: Any, source: object) -> ExportedFile:
    keys = {"num_bytes", "sha256", "decoded_bytes"}
    if (
        not isinstance(entry, dict)
        or entry.keys() != keys
        or not _is_count(entry["num_bytes"])
        or not _is_count(entry["decoded_bytes"])
        or not (isinstance(entry["sha256"], str) and SHA256.fullmatch(entry["sha256"]))
    ):
        raise SourceError(
            f"{EXPORT} of {source} describes {path!r} not by {', '.join(sorted(keys))}, two counts and 64 hex digits"
        )
    return ExportedFile(**entry)


def _check_paths(manifest: ExportManifest, source: object) -> None:
    """Compare the paths with the forms that an export has, and with its datasets. Raises SourceError."""
    ids = [dataset.id for dataset in manifest.datasets]
    expected = {rows_path(dataset_id) for dataset_id in ids}
    for path in manifest.files:
        match = PATH.fullmatch(path)
        names = [name for name in match.groups() if name is not None] if match else [""]
        if not all(is_name(name) for name in names):
            raise SourceError(
                f"{source} names a file {path!r}, but an export has datasets/ID.parquet and tokenizers/ID/FILE alone, "
                "of plain names. Nothing was imported"
            )
    rows = {path for path in manifest.files if path.startswith("datasets/")}
    if (
        rows != expected
        or len(set(ids)) < len(ids)
        or len({p.casefold() for p in manifest.files}) < len(manifest.files)
    ):
        raise SourceError(
            f"{source} has the datasets {', '.join(ids)}, but the rows {', '.join(sorted(rows)) or 'of none'}; "
            "each needs its own. Nothing was imported"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
