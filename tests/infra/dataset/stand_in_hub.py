"""A stand-in for the Hugging Face Hub on 127.0.0.1, for the real client: repositories from folders, faults on demand.

Serves `ROOT/OWNER/NAME/FILES…` as the dataset `OWNER/NAME` at the one commit `COMMIT`.
"""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "a1b2c3d4" * 5
BRANCH = "main"
RENAMED = ("/datasets/mtx/old-name", "/datasets/mtx/jsonl")
API = re.compile(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
FILE = re.compile(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Fault:
    """What goes wrong: `status` is answered, with the Hub's `code`; `reset` breaks off; `empty` sends no body.

    `short` sends half of it, `corrupt` changes a byte, `ignore_range` sends all of it, `stall_s` waits.

    It strikes GETs of paths that contain `match`, after the first `after`, `times` times.
    """

    match: str
    status: int = 0
    code: str = ""
    reset: bool = False
    empty: bool = False
    short: bool = False
    corrupt: bool = False
    ignore_range: bool = False
    stall_s: float = 0
    retry_after_s: int | None = None
    after: int = 0
    times: int = 1


@dataclass
class Hub:
    """The server's state."""

    root: Path
    fault: Fault | None = None
    paths: list[str] = field(default_factory=list)  # of all GETs
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


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    hub = Hub(root)

    class Handler(_Handler):
        state = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


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
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlparse(self.path)
        fault = self.state.strike(url.path) if self.command == "GET" else None
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
        if what and revision not in (COMMIT, BRANCH):
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
        return self._send(200, {"id": repo, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})

    def _file(self, repo: str, _revision: str, name: str, *, fault: Fault | None) -> None:
        path = self.state.root / repo / unquote(name)
        if not path.is_file():
            return self._error(404, "EntryNotFound")
        data = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or (fault and fault.ignore_range):
            return self._content(200, data, headers, fault)
        first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
        if first >= len(data):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self._content(206, data[first : last + 1], headers, fault)

    def _content(self, status: int, data: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        if fault and (fault.empty or fault.short):
            data = b"" if fault.empty else data[: len(data) // 2]
        if fault and fault.corrupt:
            at = data.rindex(b"en ") + 1
            data = data[:at] + b"N" + data[at + 1 :]
        if fault and fault.stall_s:
            time.sleep(fault.stall_s)
        if self.command == "GET":
            self.state.num_bytes += len(data)
        self._send(status, data, headers)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

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
    data = path.read_bytes()
    return {
        "type": "file",
        "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
        "size": len(data),
        "path": name,
    }
