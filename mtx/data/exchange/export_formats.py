"""Export formats of datasets: Parquet (for import), Moses text, Hugging Face `datasets`, and Megatron-LM."""

import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtx.data.bounded_pair_batches import OWN_COLUMNS
from mtx.data.dataset import TranslationDataset
from mtx.data.exchange.column_type_checks import check_columns, check_types
from mtx.data.exchange.export_manifest import EXPORT_FILE, ExportedFile
from mtx.data.exchange.megatron_files import largest_id_of, write_sides
from mtx.errors import DamagedError, DataError, SourceError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.atomic_file import convert_disk_errors, sha256_of
from mtx.infra.dal.protocols import is_name
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.library_errors import library_reason
from mtx.progress.tracking import track

Newlines = Literal["refuse", "escape", "drop"]
ExtraColumns = Literal["refuse", "drop"]

ROWS_PER_DECODE = 1024  # rows decoded at once, so that memory for an untrusted file is bounded by its longest texts
ROWS_PER_BATCH = 1 << 16  # rows per record batch and per row group
SLACK_BYTES = 1 << 20  # allowed excess of decoded bytes, because batches of other sizes have other offsets
LINE_BREAK = r"[\r\n]"  # line ends for wc, paste, sacreBLEU and Python's open()
OTHER_LINE_BREAK = "[\u000b\u000c\u001c-\u001e\u0085\u2028\u2029]"  # further line ends, only for str.splitlines()
MAX_LISTED = 10_000  # maximum number of dropped rows that the manifest lists
ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"))


def write_parquet(dataset: TranslationDataset, path: Path) -> ExportedFile:
    """Write the rows of a dataset as Parquet with a checksum per page, in a stream.

    Raises DataError for a column type that Parquet does not support, and StoreError if writing fails.
    """
    schema, decoded_bytes = dataset.rows.schema, 0
    check_types(dataset, "parquet", lambda field: pq.write_table(pa.schema([field]).empty_table(), io.BytesIO()))
    with (
        convert_disk_errors(path),
        pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            write_page_checksum=True,
            use_compliant_nested_type=False,  # keeps the names of list items as in the store
        ) as writer,
    ):
        for batch in track(_blocks(dataset), f"writing {dataset.id}", len(dataset), "export"):
            writer.write_batch(batch)
            decoded_bytes += batch.nbytes
    return ExportedFile(path.stat().st_size, sha256_of(path), decoded_bytes)


def check_parquet(
    dataset: TranslationDataset, path: Path, declared: ExportedFile, sizes: Mapping[str, int] | None = None
) -> None:
    """Decode the rows of an untrusted export, and compare them with its manifest.

    Args:
        dataset: the manifest of the dataset.
        path: the file of the rows.
        declared: size and digest of the file.
        sizes: the number of ids in the vocabulary of each column with token ids.

    Raises:
        SourceError: the columns are not those of the stage, a text is null, or an id is not in the vocabulary.
        DamagedError: the file is unreadable, or the decoded rows differ from the declared counts.
    """
    for batch in _decoded_batches(dataset, path, declared):
        for column, size in (sizes or {}).items():
            largest = pc.max(batch.column(column).flatten()).as_py()
            if largest is not None and largest >= size:
                raise SourceError(
                    f"{dataset.id} has the token id {largest} in {column!r}, but the ids of its tokenizer are 0 to "
                    f"{size - 1}. Nothing was imported"
                )
        for column in {"num_source_bytes", "num_target_bytes"} & set(batch.schema.names) if sizes else ():
            if (least := pc.min(batch.column(column)).as_py()) is not None and least < 0:
                raise SourceError(
                    f"{dataset.id} has {least} in {column!r}, but a text has at least 0 bytes. Nothing was imported"
                )


def read_parquet(
    dataset: TranslationDataset, path: Path, declared: ExportedFile
) -> pa.Table | Iterator[pa.RecordBatch]:
    """Return the rows of an export. Raises as `check_parquet` does, during reading.

    Texts are returned as a stream of record batches. Token ids are returned as one table with one chunk in memory,
    which loaders need.
    """
    schema = pq.read_schema(path)
    batches = _decoded_batches(dataset, path, declared)
    if dataset.stage == "encoded" or not dataset.n:
        return pa.Table.from_batches(list(batches), schema).combine_chunks()
    return _merged_batches(batches, schema)


def write_moses(
    dataset: TranslationDataset, folder: Path, *, newlines: Newlines, columns: ExtraColumns = "refuse"
) -> dict[str, Any]:
    """Write the texts of a dataset as two parallel line files, and return a description of the result.

    Args:
        dataset: a dataset with texts; its languages are the suffixes of the files, such as `train.en` and `train.de`.
        folder: the folder to write to.
        newlines: what to do with texts that contain a line break (LF or CR). `refuse` raises DataError, and `drop`
            drops the pair. `escape` writes LF as backslash n, CR as backslash r and a backslash as two, in all texts.
        columns: what to do with columns other than the two texts: `refuse` raises DataError; `drop` drops the columns.
            Row numbers and sources that mtx added are always dropped.

    Raises DataError if the dataset has no texts, or has content that the options refuse.
    """
    _check_for_moses(dataset, columns)
    names = _file_names(dataset)
    counts: Counter[str] = Counter()
    dropped: list[int] = []
    start = 0
    with (folder / names[0]).open("xb") as source_file, (folder / names[1]).open("xb") as target_file:
        for block in _blocks(dataset, ["src", "tgt"]):
            broken = pc.or_(*(pc.match_substring_regex(side, LINE_BREAK) for side in block.columns))
            other = pc.or_(*(pc.match_substring_regex(side, OTHER_LINE_BREAK) for side in block.columns))
            rows = [start + i for i in pc.indices_nonzero(broken).to_pylist()]
            start += block.num_rows
            counts.update(with_line_break=len(rows), with_other_break=pc.sum(other).as_py() or 0)
            if rows and newlines == "refuse":
                raise DataError(
                    f"row {rows[0]} of {dataset.id} has a line break (LF or CR) in a text, which a line of "
                    "Moses text cannot hold. Set task.newlines=escape, which is reversible, or task.newlines=drop, or "
                    "format=parquet"
                )
            if newlines == "drop":
                dropped += rows
                block = block.filter(pc.invert(broken))
            counts["written"] += block.num_rows
            for file, texts in zip((source_file, target_file), block.columns, strict=True):
                for plain, escaped in ESCAPES if newlines == "escape" else ():
                    texts = pc.replace_substring(texts, plain, escaped)
                with convert_disk_errors(folder):
                    file.writelines(text.encode() + b"\n" for text in texts.to_pylist())
    return {
        "format": "mtx-moses",
        "dataset": dataset.to_manifest(),
        "num_pairs": counts["written"],
        "newlines": newlines,
        "num_pairs_with_line_break": counts["with_line_break"],
        "num_pairs_dropped": len(dropped),
        "rows_dropped": dropped[:MAX_LISTED],
        "columns_dropped": _extra_columns(dataset),
        # These texts are complete in the files, but readers that split lines at these characters misread them.
        "num_pairs_with_other_break": counts["with_other_break"],
        "files": {name: _file_entry(folder / name) for name in names},
    }


def write_datasets(dataset: TranslationDataset, folder: Path) -> dict[str, Any]:
    """Write a dataset with the library `datasets`, for `datasets.load_from_disk`; return a description of the result.

    Raises DataError for a column type that the library does not support, and StoreError if writing fails.
    """
    from datasets import Dataset, Features, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.table import MemoryMappedTable

    schema = dataset.rows.schema.remove_metadata()
    check_types(dataset, "datasets", lambda field: Features.from_arrow_schema(pa.schema([field])))
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()  # the library would draw them into log files, too
    try:
        with convert_disk_errors(folder), tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as beside:
            rows = Path(beside) / "rows"  # the library memory-maps this file, so that memory stays bounded
            with pa.OSFile(str(rows), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                for batch in _blocks(dataset):
                    writer.write_batch(batch.replace_schema_metadata(None))
            Dataset(MemoryMappedTable.from_file(str(rows)), fingerprint=dataset.id[-64:]).save_to_disk(folder)
    finally:
        if had_bars:
            enable_progress_bars()
    files = {path.name: _file_entry(path) for path in sorted(folder.iterdir())}
    return {"format": "mtx-datasets", "dataset": dataset.to_manifest(), "num_pairs": len(dataset), "files": files}


def write_megatron(dataset: TranslationDataset, folder: Path) -> dict[str, Any]:
    """Write the token ids of an encoded dataset for Megatron-LM; return a description of the result.

    Raises DataError if the dataset has no token ids, and StoreError if writing fails.
    """
    largest = largest_id_of(dataset.rows.batches(), dataset.id)
    num_pairs = write_sides(_blocks(dataset), folder, largest_id=largest)
    files = {path.name: _file_entry(path) for path in sorted(folder.iterdir())}
    return {"format": "mtx-megatron", "dataset": dataset.to_manifest(), "num_pairs": num_pairs, "files": files}


def write_description(described: dict[str, Any], folder: Path) -> None:
    """Write the description of an export that cannot be imported to `mtx-export.json` in its folder."""
    with convert_disk_errors(folder):
        (folder / EXPORT_FILE).write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")


def _blocks(dataset: TranslationDataset, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Stream the rows in order, in batches of at most `ROWS_PER_BATCH`, with the given columns or all."""
    for batch in dataset.rows.batches(columns):
        for start in range(0, batch.num_rows, ROWS_PER_BATCH):
            yield batch.slice(start, ROWS_PER_BATCH)


def _extra_columns(dataset: TranslationDataset) -> list[str]:
    """Return the names of the columns that came with the pairs from the source, without texts and mtx's own columns."""
    own = (*PAIR_SCHEMA.names, *OWN_COLUMNS)
    return [name for name in dataset.rows.schema.names if name not in own]


def _check_for_moses(dataset: TranslationDataset, columns: ExtraColumns) -> None:
    """Raise DataError if Moses text cannot represent the dataset."""
    if dataset.stage in ("encoded", "scores"):
        holds = "token ids" if dataset.stage == "encoded" else "scores"
        source = dataset.provenance.get("inputs")
        instead = f", as dataset={source[0]}" if isinstance(source, list) and source else ""
        raise DataError(
            f"format=moses writes texts, but {dataset.id} holds {holds}. Export its text dataset{instead}, or "
            "set format=parquet"
        )
    if columns == "refuse" and (extra := _extra_columns(dataset)):
        raise DataError(
            f"{dataset.id} has columns in addition to its texts, which Moses text cannot hold: {', '.join(extra)}. "
            "Drop them with task.columns=drop, or set format=parquet"
        )


def _decoded_batches(dataset: TranslationDataset, path: Path, declared: ExportedFile) -> Iterator[pa.RecordBatch]:
    num_rows, left = 0, declared.decoded_bytes * 1.5 + SLACK_BYTES
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)  # keeps no bytes after use
        check_columns(dataset, file.schema_arrow)
        for batch in track(file.iter_batches(batch_size=ROWS_PER_DECODE), f"reading {dataset.id}", dataset.n, "import"):
            num_rows += batch.num_rows
            left -= batch.nbytes
            if left < 0:
                raise SourceError(
                    f"the rows of {dataset.id} decode to more than the {declared.decoded_bytes:,} bytes that the "
                    "export declares. Files that are meant to fill a disk are so. Nothing was imported"
                )
            needed = {"encoded": batch.schema.names, "scores": []}.get(dataset.stage, PAIR_SCHEMA.names)
            if lacking := [name for name in needed if batch.column(name).null_count]:
                raise SourceError(
                    f"{dataset.id} has a row without a value in {lacking[0]!r}, but each row needs both texts or all "
                    "token ids. Nothing was imported"
                )
            batch.validate(full=True)  # checks UTF-8 and offsets, because later code relies on them
            yield batch
    except (pa.ArrowException, OSError, ValueError) as error:
        raise_if_exhausted(error)
        raise DamagedError(
            f"the rows of {dataset.id} cannot be read: {library_reason(error)}. Nothing was imported"
        ) from error
    if num_rows != dataset.n:
        raise DamagedError(
            f"{dataset.id} has changed: rows {num_rows}, but the manifest says {dataset.n}. Nothing was imported"
        )


def _merged_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Join small batches to the stored batch size, so that rows can be found as fast as in the original dataset."""
    some: list[pa.RecordBatch] = []
    for batch in batches:
        some.append(batch)
        if sum(map(len, some)) >= ROWS_PER_BATCH:
            yield from pa.Table.from_batches(some, schema).combine_chunks().to_batches()
            some = []
    if some:
        yield from pa.Table.from_batches(some, schema).combine_chunks().to_batches()


def _file_names(dataset: TranslationDataset) -> tuple[str, str]:
    """Return `train.en` and `train.de`, or `train.src` and `train.tgt` if the languages are no distinct file names."""
    source, target = dataset.languages
    if not (is_name(source) and is_name(target)) or source.casefold() == target.casefold():
        source, target = "src", "tgt"
    return f"{dataset.split}.{source}", f"{dataset.split}.{target}"


def _file_entry(path: Path) -> dict[str, Any]:
    return {"num_bytes": path.stat().st_size, "sha256": sha256_of(path)}
