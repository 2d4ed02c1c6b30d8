"""A database of manifests that was damaged: what is wrong with it, and what of it can still be read."""

import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mtx.errors import DamagedError
from mtx.identity import JSON
from mtx.infra.dal.aside import free_path
from mtx.infra.dal.base import folder, is_name, remove_leftovers, sync_folder, writing
from mtx.infra.dal.sealed import SEAL, check_seal

# From both ends of the table and of its index: one of the four may be the way past the damage.
WAYS = ("NOT INDEXED ORDER BY rowid", "NOT INDEXED ORDER BY rowid DESC", "ORDER BY name", "ORDER BY name DESC")
# What never changes in the first bytes of a database, by place: its format, WAL, the schema's format, UTF-8, no numbers
# of its own. See "The Database Header" in SQLite's description of its file format.
HEADER = {0: b"SQLite format 3\0", 18: b"\2\2\0\x40\x20\x20", 44: b"\0\0\0\4\0\0\0\0", 56: b"\0\0\0\1" + bytes(32)}
BESIDE = ("", "-wal")  # what a database consists of; its -shm is made anew from them


def text_of(value: JSON) -> str:
    """Return the one way in which a manifest is written into a row."""
    return json.dumps(value, sort_keys=True)


def value_of(text: Any) -> JSON:
    """Return the manifest that a row holds. Raises ValueError where mtx did not write it so."""
    if not isinstance(text, str):
        raise ValueError(f"it is a {type(text).__name__}, no text")
    try:
        value: JSON = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if text_of(value) != text:
        raise ValueError("it is not written as mtx writes it")
    return value


def problems(db: sqlite3.Connection, path: Path, *, full: bool) -> list[str]:
    """Say what is wrong with the database `path` as a whole.

    Not seen are changes in the counters of its header and in space that holds nothing: they change no manifest.
    Raises sqlite3.DatabaseError where it cannot even be asked.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if changed := [place for place, fixed in HEADER.items() if header[place : place + len(fixed)] != fixed]:
        return [f"its header is not as mtx writes it, from byte {changed[0]} on"]
    found = [row[0] for row in db.execute(f"PRAGMA {'integrity_check' if full else 'quick_check'}(5)")]
    if found != ["ok"]:
        return [" ".join(str(line).split()) for line in found]
    kinds = list(db.execute("SELECT type, name, tbl_name FROM sqlite_master ORDER BY type"))
    if kinds != [("index", "sqlite_autoindex_manifest_1", "manifest"), ("table", "manifest", "manifest")]:
        return [f"it holds {', '.join(f'{kind} {name}' for kind, name, _ in kinds) or 'no table'}, not the manifests"]
    names = [row[0] for row in db.execute("SELECT name FROM manifest")]
    return [f"{name!r} is no name for something stored" for name in names if not is_name(name)]


def replace_by_readable(path: Path, to: Path, schema: str) -> list[Path]:
    """Put a database of all rows that can be read in the place of `path`, and return where copies of the old one are.

    What the damaged one said about anything else stays in the copies. For holders of the lock on writing `path`.
    Raises StoreError.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that, where it can be, all is in one file
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema=ON")  # which also reads a file that was cut short
        with suppress(sqlite3.DatabaseError):
            db.execute("BEGIN IMMEDIATE")  # writers wait, and then see that the file is another
        rows = _readable(db)
        kept = _copied(path, folder(to))
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
            with writing(path):
                for beside in ("-wal", "-shm"):
                    path.with_name(path.name + beside).unlink(missing_ok=True)  # not those of the new one
                temporary.replace(path)
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return kept


def _copied(path: Path, to: Path) -> list[Path]:
    place = free_path(to, path.name)
    copies = []
    with writing(place):
        for beside in BESIDE:
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


def _readable(db: sqlite3.Connection) -> dict[str, str]:
    """Return the rows that are as they were written, asked for in every way there is."""
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
        for way in WAYS
        for rowid in _until_an_error(db, f"SELECT rowid FROM manifest {way}")
        if isinstance(rowid, int)
    }


def _until_an_error(db: sqlite3.Connection, query: str) -> Iterator[Any]:
    with suppress(sqlite3.Error, UnicodeDecodeError):
        for row in db.execute(query):
            yield row[0]


def _is_whole(name: str, text: Any) -> bool:
    try:
        value = value_of(text)
        if isinstance(value, dict) and SEAL in value:
            check_seal(value, name)
    except (ValueError, DamagedError):
        return False
    return not isinstance(value, dict) or value.get("id", name) == name
