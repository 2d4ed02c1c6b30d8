"""Benchmark: rows per second from the Hugging Face Hub, mtx compared with streaming by `datasets`.

    python scripts/bench_hub.py --rows 300000 --rounds 5

Both read from the local stand-in Hub of the tests, the same columns of the same files. Libraries are imported before
the measurement. The time to open a dataset counts for both. mtx and `datasets` take turns, and the number of rows is
checked. The output is the median rate of each, and the median ratio within a round.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/infra/dataset"))

TEXT = "a sentence of the usual length, such as a corpus has, number {}"


def write(root: Path, num_rows: int) -> None:
    """Write the same pairs as JSON Lines and as Parquet, in four files each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for kind in ("jsonl", "parquet"):
        folder = root / "mtx" / kind
        folder.mkdir(parents=True)
        card = f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: '*.{kind}'\n---\n"
        (folder / "README.md").write_text(card)
        for part in range(4):
            numbers = range(part * num_rows // 4, (part + 1) * num_rows // 4)
            rows = [{"id": i, "src": TEXT.format(i), "tgt": TEXT.format(i)[::-1]} for i in numbers]
            if kind == "jsonl":
                (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            else:
                pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}.parquet")


def with_mtx(kind: str) -> int:
    from mtx.infra.dataset.download import HFDatasetDownloader

    source = HFDatasetDownloader(dataset=f"mtx/{kind}")
    source.info()
    return sum(batch.num_rows for batch in source.batches("train", {}))


def with_datasets(kind: str) -> int:
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        data = datasets.load_dataset(f"mtx/{kind}", split="train", streaming=True, cache_dir=cache)
        tables = data.select_columns(["src", "tgt"]).with_format("arrow").iter(batch_size=10_000)
        return sum(table.num_rows for table in tables)


def forget() -> None:
    """Clear the file listings that huggingface_hub caches, so that the next read lists the files again."""
    from huggingface_hub import HfFileSystem

    for file_system in (HfFileSystem, *HfFileSystem.__subclasses__()):
        file_system.clear_instance_cache()


def restore() -> None:
    """Register the original Hub file system with fsspec, so that `datasets` is measured without mtx."""
    import fsspec
    from huggingface_hub import HfFileSystem

    fsspec.register_implementation("hf", HfFileSystem, clobber=True)


def rows_per_s(read: Callable[[str], int], kind: str, num_rows: int) -> float:
    forget()
    restore()
    begun_s = time.perf_counter()
    found = read(kind)
    seconds = time.perf_counter() - begun_s
    assert found == num_rows, f"{found} rows were read, but {num_rows} were written"
    return num_rows / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000, help="number of rows in each dataset")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each reader")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        from stand_in_hub import serving

        write(Path(folder) / "hub", asked.rows)
        with serving(Path(folder) / "hub") as hub:
            os.environ.update({"HF_ENDPOINT": hub.url, "HF_HOME": f"{folder}/home", "HF_HUB_DISABLE_XET": "1"})
            measure(asked.rows, asked.rounds)


def measure(num_rows: int, rounds: int) -> None:
    for kind in ("jsonl", "parquet"):
        for read in (with_mtx, with_datasets):  # not timed: imports modules and fills the page cache
            rows_per_s(read, kind, num_rows)
        ours, theirs = [], []
        for number in range(rounds):
            for read, speeds in [(with_mtx, ours), (with_datasets, theirs)][:: (-1) ** number]:
                speeds.append(rows_per_s(read, kind, num_rows))
        ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
        told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(
            f"{kind}: mtx {statistics.median(ours):,.0f} rows/s, datasets {statistics.median(theirs):,.0f} rows/s, "
            f"ratio {told}, load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
