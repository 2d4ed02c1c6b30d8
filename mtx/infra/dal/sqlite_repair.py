"""Check a damaged SQLite database of manifests, and replace it by a new database with all rows that can be read."""

import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mtx.components.identity import JSON
from mtx.errors import DamagedError
from mtx.infra.dal.atomic_file import convert_disk_errors, make_folder, remove_leftovers, sync_folder
from mtx.infra.dal.manifest_digest import DIGEST_KEY, check_digest
from mtx.infra.dal.protocols import is_name
from mtx.infra.dal.quarantine import free_path
from mtx.library_errors import library_reason

# Scans from both ends of the table and of its index. One of the four scans may reach rows that are stored after the
# damage.
SCAN_ORDERS = ("NOT INDEXED ORDER BY rowid", "NOT INDEXED ORDER BY rowid DESC", "ORDER BY name", "ORDER BY name DESC")
# Header bytes that are the same in every database that mtx writes, by offset. They state the file format, WAL, the
# schema format and UTF-8, and fields that mtx does not use. Source: "The Database Header" in SQLite's description of
# its file format.
EXPECTED_HEADER = {
    0: b"SQLite format 3\0",
    18: b"\2\2\0\x40\x20\x20",
    44: b"\0\0\0\4\0\0\0\0",
    56: b"\0\0\0\1" + bytes(32),
}
FILE_SUFFIXES = ("", "-wal")  # files that contain the data of a database; SQLite rebuilds the -shm file from them


def row_text(value: JSON) -> str:
    """Return the JSON text that mtx stores in a database row for a manifest."""
    return json.dumps(value, sort_keys=True)


def row_value(text: Any) -> JSON:
    """Return the manifest in the database value `text`. Raises ValueError if `text` is not exactly as mtx writes it."""
    if not isinstance(text, str):
        raise ValueError(f"the manifest must be text, but is of the type {type(text).__name__}")
    try:
        value: JSON = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the manifest is not valid JSON: {library_reason(error)}") from error
    if row_text(value) != text:
        raise ValueError("the text of the manifest is not the text that mtx writes")
    return value


def database_problems(db: sqlite3.Connection, path: Path, *, full: bool) -> list[str]:
    """Return descriptions of the problems of the database file `path`; an empty list if there are none.

    The check does not detect changes in the header's counters and in unused space; these changes affect no manifest.

    Args:
        db: a connection to the database.
        path: path of the database file.
        full: True: run SQLite's complete integrity check. False: run SQLite's quick check.

    Raises sqlite3.DatabaseError if SQLite cannot run a query on the database.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if changed := [place for place, fixed in EXPECTED_HEADER.items() if header[place : place + len(fixed)] != fixed]:
        return [f"its header has changed, first at byte {changed[0]}"]
    found = [row[0] for row in db.execute(f"PRAGMA {'integrity_check' if full else 'quick_check'}(5)")]
    if found != ["ok"]:
        return [" ".join(str(line).split()) for line in found]
    kinds = list(db.execute("SELECT type, name, tbl_name FROM sqlite_master ORDER BY type"))
    if kinds != [("index", "sqlite_autoindex_manifest_1", "manifest"), ("table", "manifest", "manifest")]:
        return [f"it holds {', '.join(f'{kind} {name}' for kind, name, _ in kinds) or 'no table'}, not the manifests"]
    names = [row[0] for row in db.execute("SELECT name FROM manifest")]
    return [f"{name!r} is not a valid name in a store" for name in names if not is_name(name)]


def replace_by_readable(path: Path, to: Path, schema: str) -> list[Path]:
    """Replace the damaged database `path` by a new database with all rows that can be read.

    Before the replacement, the files of the damaged database are copied to the folder `to`. The caller must hold the
    lock for writing `path`. Returns the paths of the copies. Raises StoreError if the disk refuses a write.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # moves the journal into the main file, if possible
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema=ON")  # makes a truncated file readable
        with suppress(sqlite3.DatabaseError):
            db.execute("BEGIN IMMEDIATE")  # other writers wait, and then notice the replaced file
        rows = _readable_rows(db)
        kept = _copied_files(path, make_folder(to))
        remove_leftovers(path)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            with closing(sqlite3.connect(temporary, isolation_level=None)) as new:
                new.execute("PRAGMA journal_mode=WAL")
                new.execute("PRAGMA synchronous=FULL")
                new.execute(schema)
                new.execute("BEGIN")
                new.executemany("INSERT INTO manifest (name, value) VALUES (?, ?)", sorted(rows.items()))
                new.execute("COMMIT")
            with convert_disk_errors(path):
                for beside in ("-wal", "-shm"):
                    path.with_name(path.name + beside).unlink(missing_ok=True)  # they belong to the old database
                temporary.replace(path)
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return kept


def _copied_files(path: Path, to: Path) -> list[Path]:
    place = free_path(to, path.name)
    copies = []
    with convert_disk_errors(place):
        for beside in FILE_SUFFIXES:
            old, copy = path.with_name(path.name + beside), place.with_name(place.name + beside)
            if old.exists() and (old.stat().st_size or not beside):
                shutil.copyfile(old, copy)
                descriptor = os.open(copy, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                copies.append(copy)
        sync_folder(to)
    return copies


def _readable_rows(db: sqlite3.Connection) -> dict[str, str]:
    """Return all undamaged rows of the database by name, found with every scan order in `SCAN_ORDERS`."""
    found: dict[str, str] = {}
    for rowid in sorted(_rowids(db)):
        with suppress(sqlite3.Error, UnicodeDecodeError):
            for name, text in db.execute("SELECT name, value FROM manifest NOT INDEXED WHERE rowid = ?", (rowid,)):
                if is_name(name) and _is_whole(name, text):
                    found.setdefault(name, text)
    return found


def _rowids(db: sqlite3.Connection) -> set[int]:
    return {
        rowid
        for way in SCAN_ORDERS
        for rowid in _values_until_error(db, f"SELECT rowid FROM manifest {way}")
        if isinstance(rowid, int)
    }


def _values_until_error(db: sqlite3.Connection, query: str) -> Iterator[Any]:
    with suppress(sqlite3.Error, UnicodeDecodeError):
        for row in db.execute(query):
            yield row[0]


def _is_whole(name: str, text: Any) -> bool:
    try:
        value = row_value(text)
        if isinstance(value, dict) and DIGEST_KEY in value:
            check_digest(value, name)
    except (ValueError, DamagedError):
        return False
    return not isinstance(value, dict) or value.get("id", name) == name
