"""Store manifests in an SQLite database on a local disk. This is the default object layer.

Each commit survives a power failure, and several processes can use the database at the same time.
"""

import os
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from mtx.components.identity import JSON
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError
from mtx.infra.dal import sqlite_repair
from mtx.infra.dal.atomic_file import convert_disk_errors, remove_leftovers, sync_folder
from mtx.infra.dal.locks import path_lock
from mtx.infra.dal.maintenance_protocols import Damage, Leftover
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.oal import (
    LOCK_FILE,
    RESTORE_HINT,
    already_stored_message,
    json_value,
    not_stored_message,
    quarantine_content,
    temporary_leftovers,
)
from mtx.infra.dal.protocols import checked_name
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

DATABASE = "manifests.sqlite"
SCHEMA = "CREATE TABLE manifest (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
# SQLite errors whose cause is the disk, permissions or other processes. They do not mean that the database is damaged.
SYSTEM_ERRORS = tuple(
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
BUSY_TIMEOUT_S = 60  # how long a writer waits for another writer

OPEN_LAYERS: "weakref.WeakSet[SQLiteObjectLayer]" = weakref.WeakSet()


def close_all() -> None:
    """Close the connections of all layers before a fork, since a child process must not use them."""
    for layer in list(OPEN_LAYERS):
        layer.close()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=close_all)


class SQLiteObjectLayer:
    """Object layer (`ObjectLayer`) that stores all JSON values in the database `location/manifests.sqlite`.

    The database uses a WAL journal and `synchronous=FULL`. A value survives a killed process and a power failure once
    `create` has returned. The layer opens a connection for each call, or one connection for all calls inside
    `connection`, unless its folder is read-only. Threads use the connection one after another. The connection is closed
    before a fork, and a pickle does not contain the connection. WAL needs shared memory, so the folder must be on a
    local disk. Reading works without write permission.

    Args:
        location: the folder that contains the database; the first write creates the folder.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = expanded_path(location).absolute()
        self._reset_connection()

    def _reset_connection(self) -> None:
        self._turn = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._is_immutable = False  # whether `_db` takes the file as it was, and would miss what others write later
        self._inode = 0  # inode of the database file that `_db` has open
        self._num_keepers = 0  # number of callers inside `connection`
        OPEN_LAYERS.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self.location}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset_connection()

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Return a context manager. Inside the context, all calls use one connection."""
        with self._turn:
            self._num_keepers += 1
        try:
            yield
        finally:
            with self._turn:
                self._num_keepers -= 1
                if not self._num_keepers:
                    self.close()

    def close(self) -> None:
        """Close the connection, if one is open. The next call opens a new connection."""
        with self._turn:
            if self._db is not None:
                self._db.close()
                self._db = None

    def create(self, name: str, value: Any) -> None:
        """Store `value` under `name`.

        Raises AlreadyStoredError if `name` is stored, and StoreError if JSON cannot represent `value`.
        """
        text = sqlite_repair.row_text(json_value(checked_name(name), value))
        self._create_database()
        with self._transaction("IMMEDIATE") as db:
            try:
                db.execute("INSERT INTO manifest (name, value) VALUES (?, ?)", (name, text))
            except sqlite3.IntegrityError as error:
                raise AlreadyStoredError(already_stored_message(name, self.location)) from error

    def read(self, name: str) -> JSON:
        """Return the value of `name`. Raises NotStoredError, or DamagedError if the stored value has changed."""
        values = self._values(name)
        if not values:
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
        return values[0]

    def find(self, name: str) -> JSON | None:
        """Return the value of `name`, or None if `name` is not stored. Raises DamagedError as `read` does."""
        values = self._values(name)
        return values[0] if values else None

    def delete(self, name: str) -> None:
        """Delete the value of `name`. Raises NotStoredError if `name` is not stored."""
        if self.exists(name):
            with self._transaction("IMMEDIATE") as db:
                if db.execute("DELETE FROM manifest WHERE name = ?", (name,)).rowcount:
                    return
        raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))

    def exists(self, name: str) -> bool:
        """Return whether a value is stored under `name`."""
        return bool(self._select("SELECT 1 FROM manifest WHERE name = ?", checked_name(name)))

    def get_all_names(self) -> list[str]:
        """Return all stored names, sorted."""
        return self._select("SELECT name FROM manifest WHERE typeof(name) = 'text' ORDER BY name")

    def check(self, *, full: bool) -> list[Damage]:
        """Return a `Damage` for each problem of the database file. See `ObjectMaintenance`.

        Args:
            full: True: run SQLite's complete integrity check. False: run SQLite's quick check.
        """
        if not self._path.exists():
            return []
        try:
            with self._transaction("DEFERRED") as db:
                problems = sqlite_repair.database_problems(db, self._path, full=full)
        except DamagedError as error:
            problems = [library_reason(error.__cause__ or error)]
        return [Damage(DATABASE, problem) for problem in problems]

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Replace the database by a new database with all manifests that can be read. See `ObjectMaintenance`."""
        if not self._path.exists():
            return []
        with path_lock(self.location / LOCK_FILE), self._convert_errors():
            return [str(path) for path in sqlite_repair.replace_by_readable(self._path, Path(to), SCHEMA)]

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the manifest `name` out of the database into a separate file, and return the path of the file.

        See `ObjectMaintenance`.
        """
        rows = self._select("SELECT CAST(value AS BLOB) FROM manifest WHERE name = ?", checked_name(name))
        if not rows:
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
        place = quarantine_content(rows[0] or b"", name, to)
        self.delete(name)
        return place

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the temporary files of killed processes. See `ObjectMaintenance`."""
        return temporary_leftovers(self.location, f".{DATABASE}.*.tmp*", self.location / LOCK_FILE)

    @property
    def _path(self) -> Path:
        return self.location / DATABASE

    def _values(self, name: str) -> list[JSON]:
        """Return the value of `name` in a list, or an empty list if `name` is not stored."""
        rows = self._select("SELECT value FROM manifest WHERE name = ?", checked_name(name))
        try:
            return [sqlite_repair.row_value(row) for row in rows]
        except ValueError as error:
            raise DamagedError(
                f"the manifest of {name} in {self._path} has changed on disk: {error}. {VERIFY_HINT}"
            ) from error

    def _select(self, query: str, *parameters: str) -> list[Any]:
        """Return the first column of the rows that `query` finds, or an empty list if there is no database file."""
        if not self._path.exists():
            return []
        with self._transaction("DEFERRED") as db:
            return [row[0] for row in db.execute(query, parameters)]

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        with self._convert_errors(), self._turn:
            try:
                db = self._begin(kind)
                yield db
                db.execute("COMMIT")
                if not self._num_keepers or self._is_immutable:
                    self.close()
            except BaseException:
                if self._db is not None and self._db.in_transaction:  # SQLite ends it on a full disk
                    with suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                self.close()
                raise

    def _begin(self, kind: str) -> sqlite3.Connection:
        """Begin a transaction in the current database file and return the connection.

        A repair replaces the database file. If the file has changed since the connection was opened, this method opens
        a new connection.
        """
        while True:
            inode = self._path.stat().st_ino
            if self._db is None or self._inode != inode:
                self.close()
                self._db, self._inode = self._connect(), inode
                self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"BEGIN {kind}")
            if self._path.stat().st_ino == inode:
                return self._db
            self.close()

    def _connect(self) -> sqlite3.Connection:
        mode, self._is_immutable = "mode=rw", False
        if not os.access(self.location, os.W_OK):  # WAL needs a writable folder, except in immutable mode
            self._is_immutable = not self._path.with_name(f"{DATABASE}-wal").exists()
            mode = "mode=ro&immutable=1" if self._is_immutable else "mode=ro"
        return sqlite3.connect(
            f"{self._path.as_uri()}?{mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # a message can quote damaged bytes
            if str(getattr(error, "sqlite_errorname", "")).startswith(SYSTEM_ERRORS):
                raise StoreError(
                    f"the database {self._path} cannot be used: {library_reason(error)}. Nothing stored has changed. "
                    "Check disk space and permissions, or choose another folder with storage.root=FOLDER"
                ) from error
            raise DamagedError(
                f"the database {self._path} cannot be read: {library_reason(error)}. {RESTORE_HINT}"
            ) from error

    def _create_database(self) -> None:
        """Create the database if it does not exist.

        The database is created under a temporary name and then renamed, so that no other process sees an incomplete
        database.
        """
        if self._path.exists():
            return
        with path_lock(self.location / LOCK_FILE):
            if self._path.exists():
                return
            remove_leftovers(self._path)
            temporary = self._path.with_name(f".{DATABASE}.{uuid.uuid4().hex[:12]}.tmp")
            try:
                with self._convert_errors(), closing(sqlite3.connect(temporary, isolation_level=None)) as db:
                    db.execute("PRAGMA journal_mode=WAL")  # the file stores this for later connections
                    db.execute(SCHEMA)
                with convert_disk_errors(self._path):
                    temporary.replace(self._path)
                    sync_folder(self.location)
            finally:
                temporary.unlink(missing_ok=True)
