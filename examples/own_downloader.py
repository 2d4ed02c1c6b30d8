"""Shows a user-defined downloader: it reads pairs from a table of an SQLite database.

Run it with a folder for the database, or without one to use a temporary folder:

    python examples/own_downloader.py
    python examples/own_downloader.py FOLDER

The program writes a small database, tests the downloader with `check_downloader`, and draws one batch from it.
docs/sources.md explains the class.
"""

import hashlib
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

import mtx
from mtx.components.identity import identity
from mtx.errors import SourceError
from mtx.infra.dataset.download import PAIR_SCHEMA, ROWS_PER_BATCH, Downloader, SourceInfo
from mtx.testing import check_downloader


@dataclass(frozen=True, kw_only=True)
class SQLiteDownloader(Downloader):
    """Downloader that reads the table `pairs(source, target)` of an SQLite database, in the order of its rows.

    Args:
        path: file of the database.
        source_language: name of the source language.
        target_language: name of the target language.
        n: number of pairs to read, from the first row on. None reads all.
    """

    path: str
    source_language: str = "src"
    target_language: str = "tgt"
    n: int | None = None

    def info(self) -> SourceInfo:
        # The revision is a digest of all rows: mtx reads a database again if its rows changed, not if it was moved.
        sha256 = hashlib.sha256()
        for row in self._rows():
            sha256.update(repr(row).encode())
        revision = f"sha256:{sha256.hexdigest()}"
        return SourceInfo(
            name=Path(self.path).stem,
            languages=(self.source_language, self.target_language),
            revision=revision,
            identity={**identity(self, exclude=("path",)), "revision": revision},
            splits=("train",),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        if split != "train":
            raise SourceError(f"{self.path} has no split {split!r}; there is: train")
        waiting: list[tuple[str, str]] = []
        for source, target in self._rows():
            if source is None or target is None:  # left out and counted
                counts["missing_text"] = counts.get("missing_text", 0) + 1
                continue
            waiting.append((source, target))
            if len(waiting) == ROWS_PER_BATCH:
                yield batch_of(waiting)
                waiting = []
        if waiting:
            yield batch_of(waiting)

    def _rows(self) -> Iterator[tuple[str | None, str | None]]:
        limit = -1 if self.n is None else self.n
        where = "" if self.n is None else "WHERE source IS NOT NULL AND target IS NOT NULL"
        if not Path(self.path).is_file():  # SQLite would create an empty database
            raise SourceError(f"there is no database {self.path}. Name another with downloader.path=FILE")
        try:
            with closing(sqlite3.connect(self.path)) as database:
                query = f"SELECT source, target FROM pairs {where} ORDER BY rowid LIMIT ?"
                yield from database.execute(query, (limit,))
        except sqlite3.Error as error:
            raise SourceError(
                f"{self.path} cannot be read: {error}. It needs a table pairs with the columns source and target; "
                "name another database with downloader.path=FILE"
            ) from error


def batch_of(pairs: list[tuple[str, str]]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(side, pa.large_string()) for side in zip(*pairs, strict=True)], PAIR_SCHEMA)


def write_database(path: Path, num_pairs: int) -> Path:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE pairs (source TEXT, target TEXT)")
        rows = [(f"sentence number {i}", f"Satz Nummer {i}") for i in range(num_pairs)]
        database.executemany("INSERT INTO pairs VALUES (?, ?)", [*rows, ("no translation", None)])
    return path


def main(folder: Path) -> None:
    path = write_database(folder / "corpus.sqlite", 2000)
    checked = check_downloader(
        SQLiteDownloader(path=str(path)),
        changed=SQLiteDownloader(path=str(write_database(folder / "other.sqlite", 10))),
        broken=SQLiteDownloader(path=str(Path(__file__))),
    )
    print(f"the contract holds: {checked.num_pairs['train']:,} pairs, left out: {checked.counts['train']}")

    source = ["downloader._target_=own_downloader.SQLiteDownloader", f"+downloader.path={path}"]
    dm = mtx.compose_datamodule([*source, "tokenizer=byte", f"storage.root={folder / 'store'}"])
    dm.prepare_data()
    dm.setup("fit")
    batch = next(iter(dm.train_dataloader()))
    print(f"the first batch: {list(batch['encoder_input_ids'].shape)} source ids")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
