"""Manifests in SQLite: the default. Durable at each commit, safe with many processes, on a local disk."""

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError
from mtx.identity import JSON
from mtx.infra.dal import sqlite_repair
from mtx.infra.dal.base import checked_name, path_lock, remove_leftovers, sync_folder, writing
from mtx.infra.dal.oal import LOCK, RESTORE, absent, already, json_value, put_aside, temporaries
from mtx.infra.dal.sealed import VERIFY
from mtx.infra.dal.upkeep import Damage, Leftover

DATABASE = "manifests.sqlite"
SCHEMA = "CREATE TABLE manifest (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
# Errors that tell of the disk, of permissions and of other processes, and not of what is in the database.
OF_THE_SYSTEM = tuple(
    f"SQLITE_{name}"
    for name in (
        "BUSY",
        "LOCKED",
        "FULL",
        "IOERR",
        "CANTOPEN",
        "READONLY",
        "PERM",
        "AUTH",
        "NOMEM",
        "INTERRUPT",
        "PROTOCOL",
    )
)
BUSY_TIMEOUT_S = 60  # how long a writer waits for its turn


class SQLiteObjectLayer:
    """Key-value store of JSON values (`ObjectLayer`) in `location/manifests.sqlite`.

    WAL journal, `synchronous=FULL`: what `create` returned from survives a killed process and a power failure. A
    connection is opened for each call, so it is picklable and safe with threads, forks and processes. WAL needs
    shared memory, so the folder must be on a local disk. Reading needs no permission to write.

    Args:
        location: the folder; made when something is first written.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = Path(location).expanduser().absolute()

    def create(self, name: str, value: Any) -> None:
        """Store `value`. Raises AlreadyStoredError, and StoreError where it is nothing that JSON has."""
        text = sqlite_repair.text_of(json_value(checked_name(name), value))
        self._make()
        with self._transaction("IMMEDIATE") as db:
            try:
                db.execute("INSERT INTO manifest (name, value) VALUES (?, ?)", (name, text))
            except sqlite3.IntegrityError as error:
                raise AlreadyStoredError(already(name, self.location)) from error

    def read(self, name: str) -> JSON:
        """Return the value. Raises NotStoredError."""
        rows = self._select("SELECT value FROM manifest WHERE name = ?", checked_name(name))
        if not rows:
            raise NotStoredError(absent(name, self.location, self.get_all_names()))
        try:
            return sqlite_repair.value_of(rows[0])
        except ValueError as error:
            raise DamagedError(
                f"the manifest of {name} in {self._path} has changed on disk: {error}. {VERIFY}"
            ) from error

    def delete(self, name: str) -> None:
        """Forget the value. Raises NotStoredError."""
        if self.exists(name):
            with self._transaction("IMMEDIATE") as db:
                if db.execute("DELETE FROM manifest WHERE name = ?", (name,)).rowcount:
                    return
        raise NotStoredError(absent(name, self.location, self.get_all_names()))

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""
        return bool(self._select("SELECT 1 FROM manifest WHERE name = ?", checked_name(name)))

    def get_all_names(self) -> list[str]:
        """Return all names, sorted."""
        return self._select("SELECT name FROM manifest WHERE typeof(name) = 'text' ORDER BY name")

    def check(self, *, full: bool) -> list[Damage]:
        """Look at the database, down to each page where `full`. See `ObjectUpkeep`."""
        if not self._path.exists():
            return []
        try:
            with self._transaction("DEFERRED") as db:
                problems = sqlite_repair.problems(db, self._path, full=full)
        except DamagedError as error:
            problems = [str(error.__cause__)]
        return [Damage(DATABASE, problem) for problem in problems]

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Put a database of all manifests that can be read in the place of a damaged one. See `ObjectUpkeep`."""
        if not self._path.exists():
            return []
        with path_lock(self.location / LOCK), self._errors():
            return [str(path) for path in sqlite_repair.replace_by_readable(self._path, Path(to), SCHEMA)]

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a manifest out of the database into a file, and say where it is. See `ObjectUpkeep`."""
        rows = self._select("SELECT CAST(value AS BLOB) FROM manifest WHERE name = ?", checked_name(name))
        if not rows:
            raise NotStoredError(absent(name, self.location, self.get_all_names()))
        place = put_aside(rows[0] or b"", name, to)
        self.delete(name)
        return place

    def leftovers(self) -> Iterator[Leftover]:
        """Find what killed writers left. See `ObjectUpkeep`."""
        return temporaries(self.location, f".{DATABASE}.*.tmp*", self.location / LOCK)

    @property
    def _path(self) -> Path:
        return self.location / DATABASE

    def _select(self, query: str, *parameters: str) -> list[Any]:
        """Return the first column of what `query` finds; nothing where nothing was ever stored."""
        if not self._path.exists():
            return []
        with self._transaction("DEFERRED") as db:
            return [row[0] for row in db.execute(query, parameters)]

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        with self._errors(), closing(self._begun(kind)) as db:
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # SQLite ends it by itself where the disk is full
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _begun(self, kind: str) -> sqlite3.Connection:
        """Return a connection in a transaction, on the database that is there now: a repair puts another in place."""
        while True:
            before = self._path.stat().st_ino
            db = self._connect()
            try:
                db.execute("PRAGMA synchronous=FULL")
                db.execute(f"BEGIN {kind}")
                if self._path.stat().st_ino == before:
                    return db
            except BaseException:
                db.close()
                raise
            db.close()

    def _connect(self) -> sqlite3.Connection:
        mode = "mode=rw"
        if not os.access(self.location, os.W_OK):  # no room for WAL's shared memory; without a journal, no need of it
            mode = "mode=ro" if self._path.with_name(f"{DATABASE}-wal").exists() else "mode=ro&immutable=1"
        return sqlite3.connect(f"{self._path.as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter where its message quotes the file
            if str(getattr(error, "sqlite_errorname", "")).startswith(OF_THE_SYSTEM):
                raise StoreError(
                    f"the manifests in {self._path} cannot be used: {error}. Nothing stored has changed. "
                    "Check free space and permissions, or choose another folder with storage.root=FOLDER"
                ) from error
            raise DamagedError(f"the manifests in {self._path} cannot be read: {error}. {RESTORE}") from error

    def _make(self) -> None:
        """Make the database if need be, whole: made in place, it would be seen half made by other processes."""
        if self._path.exists():
            return
        with path_lock(self.location / LOCK):
            if self._path.exists():
                return
            remove_leftovers(self._path)
            temporary = self._path.with_name(f".{DATABASE}.{uuid.uuid4().hex[:12]}.tmp")
            try:
                with self._errors(), closing(sqlite3.connect(temporary, isolation_level=None)) as db:
                    db.execute("PRAGMA journal_mode=WAL")  # stays so, for all who open it later
                    db.execute(SCHEMA)
                with writing(self._path):
                    temporary.replace(self._path)
                    sync_folder(self.location)
            finally:
                temporary.unlink(missing_ok=True)
