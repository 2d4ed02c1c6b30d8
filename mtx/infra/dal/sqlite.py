"""Manifests in SQLite: the default. Durable at each commit, safe with many processes, on a local disk."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError
from mtx.identity import JSON
from mtx.infra.dal.base import checked_name, folder
from mtx.infra.dal.oal import absent, already, json_value

DATABASE = "manifests.sqlite"
BUSY_TIMEOUT_S = 60  # how long a writer waits for its turn


class SQLiteObjectLayer:
    """Key-value store of JSON values (`ObjectLayer`) in `location/manifests.sqlite`.

    WAL journal, `synchronous=FULL`: what `create` returned from survives a killed process and a power failure. A
    connection is opened for each call, so it is picklable and safe with threads, forks and processes. WAL needs
    shared memory, so the folder must be on a local disk.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = Path(location).expanduser().absolute()

    def create(self, name: str, value: Any) -> None:
        """Store `value`. Raises AlreadyStoredError, and StoreError where it is nothing that JSON has."""
        checked_name(name)
        text = json.dumps(json_value(name, value), sort_keys=True)
        with self._connect(write=True) as db:
            try:
                db.execute("INSERT INTO manifest (name, value) VALUES (?, ?)", (name, text))
            except sqlite3.IntegrityError as error:
                raise AlreadyStoredError(already(name, self.location)) from error

    def read(self, name: str) -> JSON:
        """Return the value. Raises NotStoredError."""
        with self._connect() as db:
            row = db.execute("SELECT value FROM manifest WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NotStoredError(absent(name, self.location, self.get_all_names()))
        try:
            value: JSON = json.loads(row[0])
        except ValueError as error:
            raise DamagedError(f"the manifest of {name} in {self.location / DATABASE} is no JSON: {error}") from error
        return value

    def delete(self, name: str) -> None:
        """Forget the value. Raises NotStoredError."""
        with self._connect(write=True) as db:
            removed = db.execute("DELETE FROM manifest WHERE name = ?", (name,)).rowcount
        if not removed:
            raise NotStoredError(absent(name, self.location, self.get_all_names()))

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""
        with self._connect() as db:
            return db.execute("SELECT 1 FROM manifest WHERE name = ?", (name,)).fetchone() is not None

    def get_all_names(self) -> list[str]:
        """Return all names, sorted."""
        with self._connect() as db:
            return [name for (name,) in db.execute("SELECT name FROM manifest ORDER BY name")]

    @contextmanager
    def _connect(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        path = folder(self.location) / DATABASE
        try:
            db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            try:
                self._prepare(db)
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            kind = StoreError if isinstance(error, sqlite3.OperationalError) else DamagedError
            raise kind(
                f"the manifests in {path} cannot be used: {error}. Nothing stored has changed. Check free space and "
                "permissions, or choose another folder with storage.root=FOLDER"
            ) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA synchronous=FULL")
        if db.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name='manifest'").fetchone() is None:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("CREATE TABLE IF NOT EXISTS manifest (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
