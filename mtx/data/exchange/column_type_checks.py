"""Checks of the column types of exported and imported datasets."""

from collections.abc import Callable

import pyarrow as pa

from mtx.data.dataset import TranslationDataset
from mtx.errors import DataError, SourceError
from mtx.library_errors import library_reason


def check_types(dataset: TranslationDataset, format: str, hold: Callable[[pa.Field], object]) -> None:
    """Raise DataError for the first column for whose field `hold` raises an error."""
    for field in dataset.rows.schema:
        try:
            hold(field)
        except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"the column {field.name!r} of {dataset.id} holds {field.type}, which format={format} does not "
                f"support: {library_reason(error)}. Leave the column out with downloader.columns, and prepare again"
            ) from error


def check_columns(dataset: TranslationDataset, schema: pa.Schema) -> None:
    """Check that the columns have the names and types of the dataset's stage. Raises SourceError."""
    types = dict(zip(schema.names, schema.types, strict=True))
    if dataset.stage == "encoded":
        right = _is_ids(types.get("source_ids")) and _is_ids(types.get("target_ids"))
        right = right and types.get("num_target_bytes") == pa.int64()
    elif dataset.stage == "scores":
        right = "src" not in types  # any typed columns, whose names the scorer decides
    else:
        right = all(_is_text(types.get(name)) for name in ("src", "tgt"))
    if len(types) < len(schema) or any(is_extension(kind) for kind in types.values()):
        right = False
    if not right:
        found = ", ".join(f"{name}: {kind}" for name, kind in types.items())
        expected = (
            "source_ids and target_ids of uint16 or uint32 in large lists, and num_target_bytes of int64"
            if dataset.stage == "encoded"
            else ("no texts" if dataset.stage == "scores" else "src and tgt of strings")
        )
        raise SourceError(
            f"rows of stage {dataset.stage} have {expected}, but {dataset.id} has {found}. Nothing was imported"
        )


def _is_text(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_ids(kind: pa.DataType | None) -> bool:
    return kind is not None and pa.types.is_large_list(kind) and kind.value_type in (pa.uint16(), pa.uint32())


def is_extension(kind: pa.DataType) -> bool:
    """Return whether a type, or a type in it, is an extension type."""
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return isinstance(kind, pa.BaseExtensionType) or any(is_extension(part) for part in inner)
