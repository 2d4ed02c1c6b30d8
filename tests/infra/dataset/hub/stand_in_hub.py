"""A stand-in for the Hugging Face Hub on 127.0.0.1, for the real client: repositories from folders, faults on demand.

Serves `ROOT/OWNER/NAME/FILES…` as the dataset and the model `OWNER/NAME` at the one commit `Hub.commit`. Files
with `lfs` in their path are said to be large ones, with a SHA-256.
"""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "a1b2c3d4" * 5
BRANCH = "main"
RENAMED = ("/datasets/mtx/old-name", "/datasets/mtx/jsonl")
API = re.compile(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
FILE = re.compile(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Fault:
    """What goes wrong: `status` is answered, with the Hub's `code`; `reset` breaks off; `empty` sends no body.

    `short` sends half of it, `drop` half of it and hangs up, and `ignore_range` sends all of it. `corrupt` changes a
    byte (the one `at`; -1: one of text, or in the middle). `stall_s` waits before the answer, and `half_way_s` in the
    middle of the body. `slow_s` takes that time for the body, in ten pieces.

    It strikes GETs of paths that contain `match`, after the first `after`, `times` times.
    """

    match: str
    status: int = 0
    code: str = ""
    reset: bool = False
    empty: bool = False
    short: bool = False
    corrupt: bool = False
    at: int = -1
    ignore_range: bool = False
    drop: bool = False
    stall_s: float = 0
    half_way_s: float = 0
    slow_s: float = 0
    retry_after_s: int | None = None
    after: int = 0
    times: int = 1


@dataclass
class Hub:
    """The server's state."""

    root: Path
    fault: Fault | None = None
    commit: str = COMMIT
    paths: list[str] = field(default_factory=list)  # of all GETs
    asked: list[tuple[int, int]] = field(default_factory=list)  # first byte and number of bytes of each answer
    tokens: set[str] = field(default_factory=set)  # that came with requests
    is_down: bool = True
    server: ThreadingHTTPServer = field(init=False)
    num_bytes: int = 0  # sent of files
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def strike(self, path: str) -> Fault | None:
        """Log the request, and return the fault where it strikes."""
        with self.lock:
            self.paths.append(path)
            if self.fault is None or self.fault.match not in path:
                return None
            if self.fault.after:
                self.fault.after -= 1
                return None
            if not self.fault.times:
                return None
            self.fault.times -= 1
            return self.fault

    def start(self) -> None:
        """Listen, after the first time at the same address as before."""
        handler = type("Handler", (_Handler,), {"state": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", urlparse(self.url).port or 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.is_down = False
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def stop(self) -> None:
        """Listen no more, and break off the connections that are open."""
        self.is_down = True
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    hub = Hub(root)
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out at once, instead of 40 ms apart
    state: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.state.is_down:
            self._reset()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.state.tokens.add(self.headers.get("Authorization", ""))
        url = urlparse(self.path)
        fault = self.state.strike(url.path) if self.command == "GET" else None
        time.sleep(fault.stall_s if fault else 0)
        if RENAMED[0] in self.path:
            self._send(307, b"", {"Location": self.path.replace(*RENAMED)})
        elif fault and fault.reset:
            self._reset()
        elif fault and fault.status:
            self._error(fault.status, fault.code, fault.retry_after_s)
        elif found := API.fullmatch(url.path):
            repo, what, revision, inner = found.groups()
            self._api(repo, what, revision, inner or "", parse_qs(url.query), body)
        elif found := FILE.fullmatch(url.path):
            self._file(*found.groups(), fault=fault)
        else:
            self._error(404, "NotFound")

    def _api(self, repo: str, what: str, revision: str, inner: str, query: dict[str, list[str]], body: bytes) -> None:
        folder = self.state.root / repo
        if not folder.is_dir():
            return self._error(404, "RepoNotFound")
        if what and revision not in (self.state.commit, BRANCH):
            return self._error(404, "RevisionNotFound")
        if what == "tree":
            if not (folder / inner).is_dir():
                return self._error(404, "EntryNotFound")
            recursive = query.get("recursive", [""])[0].lower() == "true"
            paths = sorted((folder / inner).rglob("*") if recursive else (folder / inner).iterdir())
            return self._send(200, [_entry(folder, path) for path in paths])
        if what == "paths-info":
            asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            return self._send(200, [_entry(folder, folder / name) for name in asked if (folder / name).exists()])
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        siblings = [{"rfilename": str(path.relative_to(folder))} for path in files]
        return self._send(
            200, {"id": repo, "sha": self.state.commit, "private": False, "tags": [], "siblings": siblings}
        )

    def _file(self, repo: str, _revision: str, name: str, *, fault: Fault | None) -> None:
        path = self.state.root / repo / unquote(name)
        if not path.is_file():
            return self._error(404, "EntryNotFound")
        size = path.stat().st_size
        headers = {"ETag": f'"{_digests(path)["blob"]}"', "X-Repo-Commit": self.state.commit, "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or (fault and fault.ignore_range):
            return self._content(200, path, 0, size, headers, fault)
        first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
        if first >= size:
            return self._send(416, b"", {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return self._content(206, path, first, last + 1 - first, headers, fault)

    def _content(
        self, status: int, path: Path, first: int, num_bytes: int, headers: dict[str, str], fault: Fault | None
    ) -> None:
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(num_bytes)
        if self.command != "GET":
            return self._send(status, data, headers)
        with self.state.lock:
            self.state.asked.append((first, num_bytes))
        fault = fault or Fault("")
        if fault.empty or fault.short:
            data = b"" if fault.empty else data[: len(data) // 2]
        if fault.corrupt:
            data = _with_another_byte(data, fault.at)
        self.state.num_bytes += len(data) // 2 if fault.drop else len(data)
        self._send(status, data, headers, b"")
        if fault.drop:
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        pieces = 2 if fault.half_way_s else 10 if fault.slow_s else 1
        size = max(1, -(-len(data) // pieces))
        for at in range(0, len(data), size):
            self.wfile.write(data[at : at + size])
            time.sleep(fault.slow_s / pieces if fault.slow_s else fault.half_way_s if not at else 0)
        return None

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client gave up
            super().handle()

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None, sent: bytes | None = None) -> None:
        """Answer with a body; with `sent`, the body's length is told, but only that is written."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if sent is None else sent)

    def _error(self, status: int, code: str, retry_after_s: int | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        if retry_after_s is not None:
            headers["Retry-After"] = str(retry_after_s)
        self._send(status, {"error": code}, headers)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
    size, digests = path.stat().st_size, _digests(path)
    entry = {"type": "file", "oid": digests["blob"], "size": size, "path": name}
    return {**entry, "lfs": {"oid": digests["sha256"], "size": size, "pointerSize": 130}} if "lfs" in name else entry


@cache
def _digests(path: Path) -> dict[str, str]:
    blob, sha256 = hashlib.sha1(b"blob %d\0" % path.stat().st_size), hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(2**20):
            blob.update(data)
            sha256.update(data)
    return {"blob": blob.hexdigest(), "sha256": sha256.hexdigest()}


def _with_another_byte(data: bytes, at: int) -> bytes:
    if at < 0:
        at = data.rindex(b"en ") + 1 if b"en " in data else len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
