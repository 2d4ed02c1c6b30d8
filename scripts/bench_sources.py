"""Benchmark: speed at which downloader=local reads each format, compared with plain Python, datasets and pyarrow.

The corpus is repeated up to the number of pairs. Each format is written once to a temporary folder, and all readers
read the whole file. The number of pairs that each reader returns is checked.
"""

import csv
import gzip
import io
import itertools
import json
import resource
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import datasets
import polib
import pyarrow as pa
import pyarrow.parquet as pq
from bench_turns import options, print_rates, turns

import mtx
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.infra.dataset.sources.local import LocalDownloader

NUM_PAIRS = 1_000_000
CATALOGUE_PAIRS = 100_000  # pairs for .po and .mo, because files of these formats are small in practice
Read = Callable[[Path], int]


def main() -> None:
    chosen = options(__doc__.split("\n")[0])
    num_pairs = chosen.pairs or NUM_PAIRS
    source = [override for override in chosen.source if not override.startswith("downloader.n=")]  # set by `cycled`
    downloader = mtx.compose_datamodule(source).recipe.downloader
    table = cycled(pa.Table.from_batches(downloader.batches("train", {})), num_pairs)
    with tempfile.TemporaryDirectory(prefix="mtx-bench-") as folder:
        for name, (form, peers) in FORMATS.items():
            part = table.slice(0, CATALOGUE_PAIRS) if name in ("po", "mo") else table
            path = Path(folder, f"corpus.{name}")
            form(part, path)
            print(f"\n{name}: {path.stat().st_size / 1e6:.0f} MB")
            contestants = {"mtx": partial(checked, by_mtx, path, len(part))}
            contestants |= {peer: partial(checked, read, path, len(part)) for peer, read in peers.items()}
            print_rates(turns(contestants, chosen.rounds), len(part))
            path.unlink()
    print(f"\npeak memory of the whole run: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def cycled(table: pa.Table, num_pairs: int) -> pa.Table:
    times = -(-num_pairs // len(table))
    return pa.concat_tables([table] * times).slice(0, num_pairs)


def checked(read: Read, path: Path, num_pairs: int) -> None:
    came = read(path)
    assert came == num_pairs, f"{num_pairs:,} pairs were written to {path}, but {came:,} were read"


def by_mtx(path: Path) -> int:
    options = {"source_language": "en", "target_language": "de"} if path.suffix in (".tmx", ".po", ".mo") else {}
    return sum(batch.num_rows for batch in LocalDownloader(path=path, **options).batches("train", {}))


# Writers of each format


def rows(table: pa.Table) -> Iterator[tuple[str, str]]:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def write_jsonl(table: pa.Table, path: Path) -> None:
    lines = (json.dumps({"src": s, "tgt": t}, ensure_ascii=False) + "\n" for s, t in rows(table))
    write_packed((line.encode() for line in lines), path)


def write_packed(parts: Iterator[bytes], path: Path) -> None:
    codec = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    with pa.output_stream(str(path), compression=codec) as stream:
        while part := b"".join(itertools.islice(parts, 10_000)):
            stream.write(part)


def write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table.cast(PAIR_SCHEMA), path, compression="zstd", row_group_size=100_000)


def write_tsv(table: pa.Table, path: Path) -> None:
    lines = ("\t".join(" ".join(text.split()) for text in pair) + "\n" for pair in rows(table))
    write_packed(itertools.chain([b"src\ttgt\n"], (line.encode() for line in lines)), path)


def write_csv(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(itertools.chain([("src", "tgt")], rows(table)))


def write_tmx(table: pa.Table, path: Path) -> None:
    legal = {code: None for code in range(32) if chr(code) not in "\t\n\r"}
    units = (
        "<tu>"
        + "".join(
            f'<tuv xml:lang="{language}"><seg>{escape(text.translate(legal))}</seg></tuv>\n'
            for language, text in zip(("en", "de"), pair, strict=True)
        )
        + "</tu>\n"
        for pair in rows(table)
    )
    head = b'<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header srclang="en"/><body>\n'
    write_packed(itertools.chain([head], (unit.encode() for unit in units), [b"</body></tmx>\n"]), path)


def catalogue(table: pa.Table, kind: type[polib.POFile] | type[polib.MOFile]) -> polib.POFile | polib.MOFile:
    made = kind()
    made.metadata = {"Language": "de", "Content-Type": "text/plain; charset=utf-8"}
    for number, (source, target) in enumerate(rows(table)):
        texts = [(text or "-").replace("\0", "").replace("\x04", "") for text in (source, target)]
        made.append(polib.POEntry(msgctxt=str(number), msgid=texts[0], msgstr=texts[1]))
    return made


def write_po(table: pa.Table, path: Path) -> None:
    catalogue(table, polib.POFile).save(str(path))


def write_mo(table: pa.Table, path: Path) -> None:
    catalogue(table, polib.MOFile).save(str(path))


# Readers to compare with mtx


def python_json(path: Path) -> int:
    opened = gzip.open if path.suffix == ".gz" else io.open
    with opened(path, "rt", encoding="utf-8", newline="\n") as lines:
        return sum(1 for line in lines if (row := json.loads(line)) and (row["src"], row["tgt"]))


def python_json_zst(path: Path) -> int:
    with pa.input_stream(str(path), compression="zstd") as stream:
        lines = io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8", newline="\n")
        return sum(1 for line in lines if (row := json.loads(line)) and (row["src"], row["tgt"]))


def python_tsv(path: Path) -> int:
    with path.open(encoding="utf-8", newline="\n") as lines:
        return sum(1 for line in itertools.islice(lines, 1, None) if line.rstrip("\n").split("\t"))


def python_csv(path: Path) -> int:
    with path.open(encoding="utf-8", newline="") as lines:
        return sum(1 for _ in itertools.islice(csv.reader(lines), 1, None))


def element_tree(path: Path) -> int:
    found = 0
    for _, element in ElementTree.iterparse(path):
        if element.tag == "tu":
            found += len([seg.text for seg in element.iter("seg")]) == 2
            element.clear()
    return found


def arrow_parquet(path: Path) -> int:
    with pq.ParquetFile(path) as file:
        return sum(batch.num_rows for batch in file.iter_batches(batch_size=65_536))


def by_datasets(kind: str, path: Path) -> int:
    """Stream the file with `datasets` in its fastest form: batches of Arrow tables."""
    data = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True).with_format("arrow")
    return sum(len(table) for table in data.iter(batch_size=10_000))


def polib_po(path: Path) -> int:
    return len(polib.pofile(str(path)))


def polib_mo(path: Path) -> int:
    return len(polib.mofile(str(path)))


DATASETS_JSON = {"datasets, streaming, Arrow": partial(by_datasets, "json")}
FORMATS: dict[str, tuple[Callable[[pa.Table, Path], None], dict[str, Read]]] = {
    "jsonl": (write_jsonl, {"json.loads": python_json, **DATASETS_JSON}),
    "jsonl.gz": (write_jsonl, {"gzip and json.loads": python_json, **DATASETS_JSON}),
    "jsonl.zst": (write_jsonl, {"zstd and json.loads": python_json_zst}),
    "parquet": (
        write_parquet,
        {"pyarrow": arrow_parquet, "datasets, streaming, Arrow": partial(by_datasets, "parquet")},
    ),
    "tsv": (write_tsv, {"str.split": python_tsv}),
    "csv": (write_csv, {"csv.reader": python_csv}),
    "tmx": (write_tmx, {"ElementTree.iterparse": element_tree}),
    "po": (write_po, {"polib": polib_po}),
    "mo": (write_mo, {"polib": polib_mo}),
}


if __name__ == "__main__":
    main()
