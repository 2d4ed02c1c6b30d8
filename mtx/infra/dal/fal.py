"""Payload as JSON Lines, the original's choice: readable with any tool, at the price of parsing it at each read."""

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.infra.dal.base import Payload, PayloadInfo, atomic_file, checked_name, file_lock, folder
from mtx.infra.dal.oal import absent, already
from mtx.infra.dal.rows import Rows, batches_of

SUFFIX = ".jsonl"
BLOCK_BYTES = 1 << 26  # longest line that can be read


class FileAccessLayer:
    """Payload by name (`FileLayer`) in `location/NAME.jsonl`, one JSON object a line, UTF-8.

    The column types stand beside it in `NAME.schema`. Rows are held in memory once read. Picklable.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = Path(location).expanduser().absolute()

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write `data`. Raises AlreadyStoredError, or StoreError where the disk refuses."""
        path = self._path(name)
        if path.exists():
            raise AlreadyStoredError(already(name, self.location))
        folder(self.location)
        num_rows = 0
        schema, batches = batches_of(data)
        with atomic_file(path.with_suffix(".schema")) as file:
            file.write(schema.serialize().to_pybytes())
        with atomic_file(path) as file:
            for batch in batches:
                for row in batch.to_pylist():
                    file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
                num_rows += batch.num_rows
        return PayloadInfo(num_rows=num_rows, num_bytes=file.num_bytes, sha256=file.hexdigest())

    def read(self, name: str) -> Rows:
        """Read the rows into memory. Raises NotStoredError, or DamagedError where a line is no JSON."""
        path = self._path(name)
        if not path.exists():
            raise NotStoredError(absent(name, self.location, sorted(p.stem for p in self.location.glob(f"*{SUFFIX}"))))
        return open_jsonl(str(path))

    def delete(self, name: str) -> None:
        """Remove the payload. Raises NotStoredError."""
        path = self._path(name)
        try:
            path.unlink()
        except FileNotFoundError as error:
            raise NotStoredError(absent(name, self.location, sorted(p.stem for p in self.location.glob(f"*{SUFFIX}")))) from error
        path.with_suffix(".schema").unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""
        return self._path(name).exists()

    def lock(self, name: str) -> AbstractContextManager[Any]:
        """Return the lock for building `name`."""
        return file_lock(self.location, name)

    def _path(self, name: str) -> Path:
        return self.location / f"{checked_name(name)}{SUFFIX}"


def open_jsonl(path: str) -> Rows:
    """Read a JSON Lines file and its schema. Raises DamagedError."""
    reopen = (open_jsonl, (path,))
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(Path(path).with_suffix(".schema").read_bytes()))
        if not os.path.getsize(path):
            return Rows(schema.empty_table(), reopen=reopen)
        table = pa.json.read_json(
            path,
            read_options=pa.json.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"{path} cannot be read: {error}. Remove the dataset and build it again") from error
    return Rows(table, reopen=reopen)
