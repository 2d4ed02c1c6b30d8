"""Compares stored rows with the manifest of their dataset, and names the shards that have changed."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mtx.data.dataset import Shard, TranslationDataset
from mtx.errors import DamagedError
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.protocols import CopyingFileLayer

if TYPE_CHECKING:
    import pyarrow as pa

    from mtx.infra.dal.arrow_rows import Rows
    from mtx.infra.dal.protocols import FileLayer


def compare(dataset_id: str, what: str, found: object, expected: object) -> None:
    """Raise DamagedError if a value of stored rows is not the one in the manifest."""
    if found != expected:
        raise changed_error(dataset_id, what, found, expected)


def changed_error(dataset_id: str, what: str, found: object, expected: object, where: str = "") -> DamagedError:
    """Return the error for stored rows that differ from their manifest."""
    return DamagedError(
        f"{dataset_id} has changed on disk{where}: {what} {found}, but the manifest says {expected}. {VERIFY_HINT}"
    )


def damaged_part(dataset: TranslationDataset, rows: "Rows") -> str:
    """Return a phrase that names the damaged shards of a payload, or an empty string if the dataset has no shards."""
    if not dataset.shards:
        return ""
    damaged, start = [], 0
    for number, shard in enumerate(dataset.shards, 1):
        if not _is_whole(shard, rows.unchecked_table.slice(start, shard.num_rows)):
            damaged.append(f"{number} (built from rows {shard.first} to {shard.end} of its input)")
        start += shard.num_rows
    found = ", ".join(damaged)
    return f" in shard {found} of {len(dataset.shards)}" if damaged else " outside its rows, which are undamaged"


def payload_rows(manifest: TranslationDataset, fal: "FileLayer") -> "Rows":
    """Return the rows in the payload of a dataset, without those of other datasets that it selects from or patches.

    Raises NotStoredError, or DamagedError if size or number of rows differ from the manifest.
    """
    known = manifest.payload
    if known is not None and isinstance(fal, CopyingFileLayer):
        rows = fal.read_payload(manifest.id, known)
    else:
        if known is not None:
            compare(manifest.id, "bytes", fal.num_bytes(manifest.id), known.num_bytes)
        rows = fal.read(manifest.id)
    compare(manifest.id, "rows", len(rows), manifest.n if known is None else known.num_rows)
    return rows


def _is_whole(shard: Shard, rows: "pa.Table") -> bool:
    import pyarrow as pa

    from mtx.infra.dal.row_digest import digest_of

    try:
        rows.validate(full=True)  # before hashing, because hashing would follow invalid offsets out of the file
    except pa.ArrowException:
        return False
    return digest_of(rows) == shard.sha256


def sizes_match(manifest: TranslationDataset, fal: "FileLayer", exists: Callable[[str], bool]) -> bool:
    """Compare the size of a dataset's payload with its manifest; return False if only its rows can tell.

    No rows are opened, since the import of pyarrow takes longer than the check of a small store.

    Args:
        manifest: the dataset without its rows.
        fal: the layer that stores its rows.
        exists: whether a dataset is stored, for those from which this one takes rows.

    Raises:
        DamagedError: the sizes differ.
    """
    bases = [*(each.id for each in manifest.selects), *([manifest.changes] if manifest.changes else [])]
    if manifest.payload is None or not all(map(exists, bases)) or not fal.exists(manifest.id):
        return False  # reading the rows tells what is missing
    compare(manifest.id, "bytes", fal.num_bytes(manifest.id), manifest.payload.num_bytes)
    if not manifest.changes:
        compare(manifest.id, "rows", manifest.payload.num_rows, manifest.n)
    return True
