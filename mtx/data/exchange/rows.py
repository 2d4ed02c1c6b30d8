"""Rows of datasets as files that other tools read: Parquet, Moses text, and what `datasets` loads from disk."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtx.data.dataset import TranslationDataset
from mtx.data.exchange.layout import EXPORT, ExportedFile
from mtx.errors import DamagedError, DataError, SourceError
from mtx.infra.dal.base import is_name, sha256_of, writing

Newlines = Literal["refuse", "escape", "drop"]

ROWS_A_GROUP = 1 << 16
ROWS_DECODED = 1024  # at a time, so that the memory an untrusted file takes is bounded by its longest texts
ROWS_A_BATCH = 1 << 16  # as stored
SLACK_BYTES = 1 << 20  # by which decoding may differ from what was counted on export: offsets of other batches
LINE_BREAK = r"[\r\n]"  # what ends a line for wc, paste, sacreBLEU and Python's open()
OTHER_BREAK = "[\u000b\u000c\u001c-\u001e\u0085\u2028\u2029]"  # what ends one for str.splitlines() alone
MAX_LISTED = 10_000  # dropped rows that the manifest names
ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"))


def write_parquet(dataset: TranslationDataset, path: Path) -> ExportedFile:
    """Write the rows as Parquet with a checksum for each page. Raises StoreError where the disk refuses."""
    table, decoded_bytes = dataset.rows.table, 0
    with (
        writing(path),
        pq.ParquetWriter(
            path,
            table.schema,
            compression="zstd",
            write_page_checksum=True,
            use_compliant_nested_type=False,  # so that lists come back with the names they have in the store
        ) as writer,
    ):
        for batch in table.to_batches(max_chunksize=ROWS_A_GROUP):
            writer.write_batch(batch)
            decoded_bytes += batch.nbytes
    return ExportedFile(path.stat().st_size, sha256_of(path), decoded_bytes)


def check_parquet(dataset: TranslationDataset, path: Path, declared: ExportedFile) -> None:
    """Decode the rows of an export that may come from anyone, and compare them with what its manifest says.

    Raises SourceError where the columns are not those of the stage, or a text is missing, and DamagedError where the
    file cannot be read, or decodes to other counts than declared.
    """
    for _ in _decoded(dataset, path, declared):
        pass


def read_parquet(
    dataset: TranslationDataset, path: Path, declared: ExportedFile
) -> pa.Table | Iterator[pa.RecordBatch]:
    """Return the rows of an export; raises as `check_parquet` does, while they are read.

    Texts come as a stream. Token ids come as one table in one piece, as loaders want them, and take memory.
    """
    schema = pq.read_schema(path)
    batches = _decoded(dataset, path, declared)
    if dataset.stage == "encoded" or not dataset.n:
        return pa.Table.from_batches(list(batches), schema).combine_chunks()
    return _merged(batches, schema)


def write_moses(dataset: TranslationDataset, folder: Path, *, newlines: Newlines) -> dict[str, Any]:
    """Write two files of lines that belong together, and return what was written, and what could not be.

    Args:
        dataset: with texts; its languages name the files, as `train.en` and `train.de`.
        folder: where to.
        newlines: what becomes of a text with a line break (LF or CR) in it, which no line can hold: `refuse` raises,
            `escape` writes a backslash as two, LF as backslash n and CR as backslash r, in all texts; `drop` leaves the
            pair out.

    Raises DataError where it holds no texts, or one that cannot be written and `newlines` is `refuse`.
    """
    table = dataset.rows.table
    if dataset.stage == "encoded":
        source = dataset.provenance.get("inputs")
        instead = f", as dataset={source[0]}" if isinstance(source, list) and source else ""
        raise DataError(
            f"format=moses writes texts, but {dataset.id} holds token ids. Export what it was made from{instead}, or "
            "take format=parquet"
        )
    names = _file_names(dataset)
    counts: Counter[str] = Counter()
    dropped: list[int] = []
    with (folder / names[0]).open("xb") as source_file, (folder / names[1]).open("xb") as target_file:
        for start in range(0, len(table), ROWS_A_BATCH):
            block = table.slice(start, ROWS_A_BATCH).select(["src", "tgt"])
            broken = pc.or_(*(pc.match_substring_regex(block[name], LINE_BREAK) for name in ("src", "tgt")))
            other = pc.or_(*(pc.match_substring_regex(block[name], OTHER_BREAK) for name in ("src", "tgt")))
            rows = [start + i for i in pc.indices_nonzero(broken).to_pylist()]
            counts.update(with_line_break=len(rows), with_other_break=pc.sum(other).as_py() or 0)
            if rows and newlines == "refuse":
                raise DataError(
                    f"row {rows[0]} of {dataset.id} has a line break (LF or CR) in a text, which no line of Moses text "
                    "can hold. Choose task.newlines=escape, which can be undone, or task.newlines=drop, or "
                    "format=parquet"
                )
            if newlines == "drop":
                dropped += rows
                block = block.filter(pc.invert(broken))
            counts["written"] += len(block)
            for file, name in ((source_file, "src"), (target_file, "tgt")):
                texts = block[name]
                for plain, escaped in ESCAPES if newlines == "escape" else ():
                    texts = pc.replace_substring(texts, plain, escaped)
                with writing(folder):
                    file.writelines(text.encode() + b"\n" for text in texts.to_pylist())
    return {
        "format": "mtx-moses",
        "dataset": dataset.to_manifest(),
        "num_pairs": counts["written"],
        "newlines": newlines,
        "num_pairs_with_line_break": counts["with_line_break"],
        "num_pairs_dropped": len(dropped),
        "rows_dropped": dropped[:MAX_LISTED],
        # Whole in the files, but not for a reader that takes these characters for ends of lines.
        "num_pairs_with_other_break": counts["with_other_break"],
        "files": {name: _described(folder / name) for name in names},
    }


def write_datasets(dataset: TranslationDataset, folder: Path) -> dict[str, Any]:
    """Write what `datasets.load_from_disk` reads, by that library, and return what was written."""
    from datasets import Dataset
    from datasets.table import InMemoryTable

    table = dataset.rows.table.replace_schema_metadata(None)
    with writing(folder):
        Dataset(InMemoryTable(table), fingerprint=dataset.id[-64:]).save_to_disk(folder)
    files = {path.name: _described(path) for path in sorted(folder.iterdir())}
    return {"format": "mtx-datasets", "dataset": dataset.to_manifest(), "num_pairs": len(dataset), "files": files}


def write_description(described: dict[str, Any], folder: Path) -> None:
    """Write `mtx-export.json` beside files that are not to be imported."""
    with writing(folder):
        (folder / EXPORT).write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")


def _check_columns(dataset: TranslationDataset, schema: pa.Schema) -> None:
    """Compare the columns with what the stage has. Raises SourceError."""
    types = dict(zip(schema.names, schema.types, strict=True))
    if dataset.stage == "encoded":
        right = _is_ids(types.get("source_ids")) and _is_ids(types.get("target_ids"))
        right = right and types.get("num_target_bytes") == pa.int64()
    else:
        right = all(_is_text(types.get(name)) for name in ("src", "tgt"))
    if len(types) < len(schema) or any(_is_extension(kind) for kind in types.values()):
        right = False
    if not right:
        found = ", ".join(f"{name}: {kind}" for name, kind in types.items())
        expected = (
            "source_ids and target_ids of uint16 or uint32 in large lists, and num_target_bytes of int64"
            if dataset.stage == "encoded"
            else "src and tgt of strings"
        )
        raise SourceError(
            f"rows of stage {dataset.stage} have {expected}, but {dataset.id} has {found}. Nothing was imported"
        )


def _is_text(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_ids(kind: pa.DataType | None) -> bool:
    return kind is not None and pa.types.is_large_list(kind) and kind.value_type in (pa.uint16(), pa.uint32())


def _is_extension(kind: pa.DataType) -> bool:
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return isinstance(kind, pa.BaseExtensionType) or any(_is_extension(part) for part in inner)


def _decoded(dataset: TranslationDataset, path: Path, declared: ExportedFile) -> Iterator[pa.RecordBatch]:
    num_rows, left = 0, declared.decoded_bytes * 1.5 + SLACK_BYTES
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _check_columns(dataset, file.schema_arrow)
        for batch in file.iter_batches(batch_size=ROWS_DECODED):
            num_rows += batch.num_rows
            left -= batch.nbytes
            if left < 0:
                raise SourceError(
                    f"the rows of {dataset.id} decode to more than the {declared.decoded_bytes:,} bytes that the "
                    "export declares, as in a file that is meant to fill a disk. Nothing was imported"
                )
            if any(column.null_count for column in batch.columns):
                raise SourceError(
                    f"{dataset.id} has a row that lacks a value, but pairs have all. Nothing was imported"
                )
            batch.validate(full=True)  # UTF-8 and offsets, which other code takes for granted
            yield batch
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"the rows of {dataset.id} cannot be read: {error}. Nothing was imported") from error
    if num_rows != dataset.n:
        raise DamagedError(f"{dataset.id} has {num_rows} rows, but its manifest says {dataset.n}. Nothing was imported")


def _merged(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Join small batches, so that rows are found as fast as in what was exported."""
    some: list[pa.RecordBatch] = []
    for batch in batches:
        some.append(batch)
        if sum(map(len, some)) >= ROWS_A_BATCH:
            yield from pa.Table.from_batches(some, schema).combine_chunks().to_batches()
            some = []
    if some:
        yield from pa.Table.from_batches(some, schema).combine_chunks().to_batches()


def _file_names(dataset: TranslationDataset) -> tuple[str, str]:
    """Return `train.en` and `train.de`; sides where languages are no file names, or one."""
    source, target = dataset.languages
    if not (is_name(source) and is_name(target)) or source.casefold() == target.casefold():
        source, target = "src", "tgt"
    return f"{dataset.split}.{source}", f"{dataset.split}.{target}"


def _described(path: Path) -> dict[str, Any]:
    return {"num_bytes": path.stat().st_size, "sha256": sha256_of(path)}
