"""Benchmark: shards of a stream that go to a bucket and come from it, compared with a local store.

The bucket is the S3 server of moto on loopback, in a process of its own. *up* streams an epoch with an empty store, so
each shard is built and uploaded. *down* streams the same epoch with an empty cache folder, as another machine does.
*again* streams it once more with this cache. The order alternates with that of a local store. Then files of one size
are uploaded and downloaded alone, beside a copy on the disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

import mtx
from mtx.infra.dal.remote.filesystem import RemoteFolder

KINDS = ("PUT", "GET", "HEAD", "LIST")
COUNTS = "/__requests__"  # path at which the server tells its counts, and begins anew

SERVER = """
import json, logging, sys
from collections import Counter
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
moto, counts = DomainDispatcherApplication(create_backend_app), Counter()

def counted(environ, start_response):
    if environ["PATH_INFO"] == sys.argv[1]:
        told = json.dumps(counts).encode()
        counts.clear()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [told]
    kind = environ["REQUEST_METHOD"]
    counts["LIST" if kind == "GET" and "list-type=" in environ["QUERY_STRING"] else kind] += 1
    return moto(environ, start_response)

server = make_server("127.0.0.1", 0, counted, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


def main() -> None:
    chosen = _options()
    with tempfile.TemporaryDirectory(prefix="mtx-bench-") as folder, bucket_server() as endpoint:
        print(f"{chosen.pairs:,} pairs in shards of {chosen.rows:,}, {os.cpu_count()} cores", flush=True)
        print(f"load at the start {os.getloadavg()[0]:.1f}", flush=True)
        stream_shards(Path(folder), endpoint, chosen)
        move_files(Path(folder), chosen.file_mb, chosen.rounds)
        print(f"\nload at the end {os.getloadavg()[0]:.1f}")


@contextmanager
def bucket_server() -> Iterator[str]:
    """Start the server, lead clients to it, and yield its URL."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, COUNTS], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "AWS_PROFILE"):
            os.environ.pop(name, None)
            os.environ.pop(name.lower(), None)
        os.environ.update(AWS_ENDPOINT_URL=endpoint, AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
        os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")
        fsspec.filesystem("s3").mkdir("bench")
        yield endpoint
    finally:
        server.kill()
        server.wait()


def requests_since(endpoint: str) -> Counter[str]:
    """Return the number of requests by kind since the last call."""
    with urllib.request.urlopen(endpoint + COUNTS) as answer:
        return Counter(json.loads(answer.read()))


class PeakBytes:
    """Measures the largest size of the datasets in a folder while its context lasts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.num_bytes = folder, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakBytes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.num_bytes = max(self.num_bytes, folder_bytes(self.folder))


def folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("**/datasets/*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # the cache has removed it meanwhile
            continue
    return total


def epoch(storage: list[str], chosen: argparse.Namespace) -> tuple[float, int]:
    """Stream an epoch, and return its seconds, from the data module to the last batch, and its number of batches."""
    overrides = ["datamodule.stream=true", f"datamodule.stream_shard_rows={chosen.rows}", "tokenizer=byte"]
    overrides += ["filter.drop_duplicates=false", "datamodule.validation=20", "datamodule.test=null"]
    dm = mtx.compose_datamodule([*chosen.source, *overrides, "datamodule.num_workers=0", *storage])
    started = time.perf_counter()
    dm.prepare_data()
    dm.setup("fit")
    num_batches = sum(1 for _ in dm.train_dataloader())
    return time.perf_counter() - started, num_batches


def stream_shards(folder: Path, endpoint: str, chosen: argparse.Namespace) -> None:
    rows: list[list[str]] = []
    for number in range(chosen.rounds):
        url = f"s3://bench/{uuid.uuid4().hex[:8]}"
        local = folder / f"local-{number}"
        seconds = {way: epoch([f"storage.root={local}"], chosen) for way in ("up", "again")}
        stored = folder_bytes(local)
        shards = -(-chosen.pairs // chosen.rows)
        bound_gb = stored * chosen.share / 1e9
        print(f"\nround {number + 1} of {chosen.rounds}: {shards} shards, {stored / 1e6:.1f} MB in a local store,")
        print(f"storage.cache_gb={bound_gb:.4g}\n", flush=True)
        rows = []
        for way, cache in (("up", "a"), ("down", "b"), ("again", "b")):
            place = folder / f"{cache}-{number}"
            requests_since(endpoint)
            with PeakBytes(place) as peak:
                storage = [f"storage.root={url}", f"storage.cache={place}", f"storage.cache_gb={bound_gb}"]
                took, num_batches = epoch(storage, chosen)
            base, same = seconds["up" if way == "up" else "again"]
            assert num_batches == same
            sent = requests_since(endpoint)
            per_shard = [f"{sent[kind] / shards:.1f}" for kind in KINDS]
            sizes = [f"{peak.num_bytes / 1e6:.2f}", f"{stored / 1e6:.2f}"]
            rows.append([way, *per_shard, f"{took:.1f}", f"{base:.1f}", f"{took / base:.2f}", *sizes])
        print_table((
            *("epoch", *(f"{kind} per shard" for kind in KINDS), "s", "s, local store", "ratio"),
            *("peak of the cache, MB", "local store, MB"),
        ), rows)  # fmt: skip
        shutil.rmtree(local)


def move_files(folder: Path, file_mb: int, rounds: int) -> None:
    """Print MB/s of uploads and downloads of one file, and of a copy of it with fsync."""
    path, content = folder / "file", os.urandom(file_mb * 1_000_000)
    path.write_bytes(content)
    bucket = RemoteFolder("s3://bench/files")
    best: dict[str, float] = {}
    for number in range(rounds):
        ways: dict[str, Any] = {
            "file, up": lambda key=str(number): bucket.upload(path, key),
            "file, down": lambda key=str(number): bucket.download(key, folder / "back"),
            "file, local copy with fsync": lambda: copied(path, folder / "copy"),
        }
        for name, move in ways.items():
            started = time.perf_counter()
            move()
            best[name] = max(best.get(name, 0), len(content) / (time.perf_counter() - started) / 1e6)
        assert (folder / "back").read_bytes() == content
    print(f"\nfile of {file_mb} MB, best of {rounds}\n")
    local = best["file, local copy with fsync"]
    print_table(
        ("way", "MB/s", "÷ local copy"), [[name, f"{rate:.0f}", f"{rate / local:.2f}"] for name, rate in best.items()]
    )


def copied(path: Path, to: Path) -> None:
    shutil.copyfile(path, to)
    with to.open("rb+") as file:
        os.fsync(file.fileno())


def print_table(titles: tuple[str, ...], rows: list[list[str]]) -> None:
    print(f"| {' | '.join(titles)} |\n| --- |{' ---: |' * (len(titles) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=24_000, help="pairs of the sample corpus")
    parser.add_argument("--rows", type=int, default=2000, help="rows of a shard")
    parser.add_argument("--share", type=float, default=0.5, help="bound of the cache, as a share of the local store")
    parser.add_argument("--file-mb", type=int, default=64, help="size of the file that is moved alone")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--quick", action="store_true", help="measure 6 shards of 50 rows once, to test the script")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.pairs, chosen.rows, chosen.file_mb, chosen.rounds = 300, 50, 2, 1
        chosen.share = 0.95
    chosen.source = ["downloader=sample", f"downloader.n={chosen.pairs}"]
    return chosen


if __name__ == "__main__":
    main()
