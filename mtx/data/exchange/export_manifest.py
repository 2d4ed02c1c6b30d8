"""The layout of an export, and its manifest `mtx-export.json`, which lists all datasets and files of the export.

    mtx-export.json                     the manifest, the first file in an archive
    datasets/ID.parquet                 the rows of each dataset
    tokenizers/ID/manifest.json …       the tokenizers of encoded datasets, copied from the store

An imported manifest is untrusted. All its values are checked for type and bounds. No value is imported, called or
executed. A path is used only after it matches one of the forms above.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtx.components.identity import JSON, plain_value
from mtx.data.dataset import TranslationDataset
from mtx.errors import MtxError, SourceError
from mtx.infra.dal.manifest_digest import json_bytes
from mtx.infra.dal.protocols import is_name
from mtx.library_errors import library_reason

EXPORT_FILE = "mtx-export.json"
FORMAT_NAME = "mtx-export"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 26
MAX_FILES = 10_000
EXPORT_PATH = re.compile(r"(?:datasets/(?P<dataset>[^/]+)\.parquet|tokenizers/(?P<tokenizer>[^/]+)/(?P<file>[^/]+))")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ExportedFile:
    """A file of an export: its size in bytes, its SHA-256 in hex, and for rows the size of the decoded rows."""

    num_bytes: int
    sha256: str
    decoded_bytes: int = 0


@dataclass(frozen=True)
class ExportManifest:
    """The content of an export.

    Attributes:
        datasets: manifests of the datasets, each after its inputs.
        files: all files, by path relative to the export's folder, with `/` as the separator.
    """

    datasets: tuple[TranslationDataset, ...]
    files: Mapping[str, ExportedFile]

    @property
    def tokenizers(self) -> list[str]:
        """The ids of the tokenizers in the export, sorted."""
        found = (EXPORT_PATH.fullmatch(path) for path in self.files)
        return sorted({match["tokenizer"] for match in found if match and match["tokenizer"]})

    @property
    def num_bytes(self) -> int:
        """Total size of all files and of all decoded rows, in bytes."""
        return sum(file.num_bytes + file.decoded_bytes for file in self.files.values())

    def to_json(self) -> bytes:
        """Return the content of `mtx-export.json`."""
        return json_bytes(
            {
                "format": FORMAT_NAME,
                "format_version": FORMAT_VERSION,
                "datasets": [dataset.to_manifest() for dataset in self.datasets],
                "files": plain_value(self.files),
            }
        )


def rows_path(dataset_id: str) -> str:
    """Return the path of a dataset's rows, relative to the export's folder."""
    return f"datasets/{dataset_id}.parquet"


def parse_manifest(content: bytes, source: object) -> ExportManifest:
    """Parse an untrusted manifest; messages call its export `source`. Raises SourceError or DamagedError."""
    try:
        manifest: JSON = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{EXPORT_FILE} of {source} is not JSON: {library_reason(error)}. Export the dataset again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT_NAME:
        raise SourceError(
            f'{EXPORT_FILE} of {source} does not have "format": "{FORMAT_NAME}", so it cannot be imported. '
            "Export the dataset with format=parquet; read Moses text and other files with downloader=local"
        )
    if manifest.get("format_version") != FORMAT_VERSION:
        raise SourceError(
            f"{source} has the export format version {manifest.get('format_version')!r}, but this mtx reads only "
            f"{FORMAT_VERSION}. Import it with the version of mtx that wrote it, or a newer one"
        )
    files, listed = manifest.get("files"), manifest.get("datasets")
    if not isinstance(files, dict) or not isinstance(listed, list) or not listed or len(files) > MAX_FILES:
        raise SourceError(
            f"{EXPORT_FILE} of {source} must have a list `datasets`, not empty, and an object `files` with at most "
            f"{MAX_FILES} entries, but has others. Export the dataset again"
        )
    datasets = tuple(_parsed_dataset(entry, source) for entry in listed)
    found = ExportManifest(datasets, {path: _parsed_file(path, entry, source) for path, entry in files.items()})
    _check_paths(found, source)
    return found


def _parsed_dataset(entry: JSON, source: object) -> TranslationDataset:
    """Parse the manifest of one dataset. Raises SourceError or DamagedError."""
    try:
        dataset = TranslationDataset.from_manifest(entry)
    except MtxError:
        raise
    except Exception as error:  # values of wrong types may raise any exception
        raise SourceError(
            f"a dataset's manifest in {source} is not valid: {library_reason(error)}. Export it again"
        ) from error
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
            "An id must be a file name, n a count, name and languages strings, provenance and metrics objects"
        )
    return dataset


def _parsed_file(path: str, entry: Any, source: object) -> ExportedFile:
    keys = {"num_bytes", "sha256", "decoded_bytes"}
    if (
        not isinstance(entry, dict)
        or entry.keys() != keys
        or not _is_count(entry["num_bytes"])
        or not _is_count(entry["decoded_bytes"])
        or not (isinstance(entry["sha256"], str) and SHA256_HEX.fullmatch(entry["sha256"]))
    ):
        raise SourceError(
            f"{EXPORT_FILE} of {source} must describe {path!r} by {', '.join(sorted(keys))}: two counts and 64 hex "
            "digits, but does not. Export the dataset again"
        )
    return ExportedFile(**entry)


def _check_paths(manifest: ExportManifest, source: object) -> None:
    """Check that all paths have an allowed form, and that each dataset has one file of rows. Raises SourceError."""
    ids = [dataset.id for dataset in manifest.datasets]
    expected = {rows_path(dataset_id) for dataset_id in ids}
    for path in manifest.files:
        match = EXPORT_PATH.fullmatch(path)
        names = [name for name in match.groups() if name is not None] if match else [""]
        if not all(is_name(name) for name in names):
            raise SourceError(
                f"{source} lists a file {path!r}, but an export has only datasets/ID.parquet and tokenizers/ID/FILE, "
                "with plain file names. Nothing was imported"
            )
    rows = {path for path in manifest.files if path.startswith("datasets/")}
    if (
        rows != expected
        or len(set(ids)) < len(ids)
        or len({p.casefold() for p in manifest.files}) < len(manifest.files)
    ):
        raise SourceError(
            f"{source} has the datasets {', '.join(ids)}, but files of rows {', '.join(sorted(rows)) or 'of none'}; "
            "each dataset needs one. Nothing was imported"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
