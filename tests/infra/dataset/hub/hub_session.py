"""A process of its own with a stand-in Hub and the real client pointed at it: `python hub_session.py FOLDER`.

The client reads its settings when it is imported, so tests talk to this process: a JSON object a line in, one out.
`{"fault": {…}}` sets a fault, or none with null. `{"info": {…}}` and `{"rows": {…}, "split": …}` make an
HFDatasetDownloader with those options and ask it; `{"count": {…}}` reads without keeping rows. `{"prepare": {…}}` runs
all stages into the store `"store"`, of a mixture where `"mixture"` names its sources, with `"sets"` to validate on.
`{"hub": "stop"}`, or `"start"`, or a commit, changes the server; `"address"` tells of it. Beside a request,
`"constants": {…}` changes huggingface_hub.constants. Each answer has the warnings that were logged, and the
notices of a Hub that does not answer.
"""

import gzip
import hashlib
import json
import logging
import os
import re
import resource
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
from stand_in_hub import Fault, Hub, serving

Row = dict[str, Any]


def translations(first: int, num_rows: int, *languages: str) -> list[Row]:
    """Return rows such as `{"id": 7, "translation": {"de": "de 7", "en": "en 7"}}`."""
    numbers = range(first, first + num_rows)
    return [{"id": i, "translation": {language: f"{language} {i}" for language in languages}} for i in numbers]


def write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)


def card(
    folder: Path, configs: Mapping[str, Mapping[str, str | list[str]]], examples: dict[str, int] | None = None
) -> None:
    """Write README.md: configuration → split → files; and the number of rows of each split, if said."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [
            line for split, path in splits.items() for line in (f"  - split: {split}", f"    path: {json.dumps(path)}")
        ]
    if examples:
        lines += ["dataset_info:", f"  config_name: {next(iter(configs))}", "  features:"]
        lines += ["  - name: id", "    dtype: int64", "  - name: translation"]
        lines += ["    dtype:", "      translation:", "        languages: [de, en]", "  splits:"]
        for name, num_examples in examples.items():
            lines += [f"  - name: {name}", "    num_bytes: 0", f"    num_examples: {num_examples}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def make_repositories(root: Path) -> None:
    """Write small repositories: one for each form of dataset, and some with faults."""
    held_out = {"validation": "de-en/validation.jsonl", "test": "de-en/test.jsonl"}
    for name in ("jsonl", "counted", "miscounted"):
        folder = root / "mtx" / name
        for shard in range(3):
            write(folder / f"de-en/train-{shard}.jsonl", translations(100 * shard, 100, "de", "en"))
        write(folder / "de-en/validation.jsonl", translations(1000, 20, "de", "en"))
        write(folder / "de-en/test.jsonl", translations(2000, 10, "de", "en"))
        counts = {"counted": 300, "miscounted": 301}
        examples = {"train": counts[name], "validation": 20, "test": 10} if name in counts else None
        card(folder, {"de-en": {"train": "de-en/train-*.jsonl", **held_out}}, examples)

    folder = root / "mtx" / "parquet"
    write(folder / "fr-en/train.parquet", translations(0, 120, "en", "fr"))
    write(folder / "de-en/train.parquet", translations(0, 10, "de", "en", "nl"))
    write(folder / "de-en/dev.parquet", translations(500, 5, "de", "en", "nl"))
    configs = {lang: {"train": f"{lang}/train.parquet"} for lang in ("de-en", "fr-en")}
    configs["de-en"]["dev"] = "de-en/dev.parquet"
    card(folder, configs)

    folder = root / "mtx" / "columns"
    write(folder / "train.jsonl.gz", [{"source": f"s {i}", "target": f"t {i}", "score": i} for i in range(7)])
    (folder / "train.jsonl.gz").rename(folder / "data.jsonl.gz")
    card(folder, {"default": {"train": "data.jsonl.gz"}})

    folder = root / "mtx" / "oddities"
    write(folder / "nulls.jsonl", [{"src": "a", "tgt": "b"}, {"src": None, "tgt": "d"}, {"src": "e", "tgt": "f"}])
    write(folder / "names.jsonl", [{"text": "a", "label": 1}])
    write(folder / "numbers.jsonl", [{"src": "a", "tgt": 1}])
    card(folder, {name: {"train": f"{name}.jsonl"} for name in ("nulls", "names", "numbers")})

    folder = root / "mtx" / "dates"  # the second file looks like dates, and the fourth like numbers
    for name, texts in (("a", ["x", "y"]), ("b", ["2020-01-01"] * 2), ("c", ["1.50", "null"]), ("d", [7, 8])):
        write(folder / f"{name}.jsonl", [{"src": text, "tgt": "t"} for text in texts])
    write(folder / "e.jsonl", [{"src": "x", "tgt": "t"}, {"src": 1, "tgt": "t"}])
    card(folder, {**{name: {"train": f"{name}.jsonl"} for name in "abcde"}, "text": {"train": "[ac].jsonl"},
                  "dates": {"train": "[ab].jsonl"}, "numbers": {"train": "[ad].jsonl"}})  # fmt: skip

    folder = root / "mtx" / "later"  # the second file has no text
    for name, values in (("text", ["x", "y"]), ("nulls", [None, None]), ("floats", [1.5, 2.5]), ("mixed", ["z", 1])):
        write(folder / f"{name}.jsonl", [{"src": value, "tgt": "t"} for value in values])
    card(folder, {name: {"train": ["text.jsonl", f"{name}.jsonl"]} for name in ("nulls", "floats", "mixed")})

    for name, path in (("lfs", "lfs/train.jsonl"), ("gz", "train.jsonl.gz")):
        write(root / "mtx" / name / path, translations(0, 300, "de", "en"))
        card(root / "mtx" / name, {"de-en": {"train": path}})

    for name in ("pages", "no-pages"):  # 9 MB before the texts that nobody reads, so that its digest cannot be followed
        rows = [{"extra": os.urandom(30_000), **row} for row in translations(0, 300, "de", "en")]
        folder = root / "mtx" / name
        folder.mkdir()
        options: dict[str, Any] = {"compression": "none", "write_statistics": False}
        pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", write_page_checksum=name == "pages", **options)
        card(folder, {"de-en": {"train": "a.parquet"}})

    folder = root / "mtx" / "script-only"
    folder.mkdir()
    (folder / "script-only.py").write_text(f"open({str(root / 'was-run')!r}, 'w')\n")

    folder = root / "mtx" / "broken-card"
    write(folder / "train.jsonl", [{"src": "a", "tgt": "b"}])
    (folder / "README.md").write_text("---\nconfigs: [a] b\n---\n")

    folder = root / "mtx" / "mixed"
    write(folder / "train.jsonl", [{"src": "a", "tgt": "b"}])
    write(folder / "test.parquet", [{"src": "a", "tgt": "b"}])
    card(folder, {"default": {"train": "train.jsonl", "test": "test.parquet"}})

    folder = root / "mtx" / "script"
    write(folder / "train.jsonl", [{"src": "a", "tgt": "b"}])
    (folder / "script.py").write_text("raise SystemExit('code of the repository was run')\n")

    folder = root / "mtx" / "blank"
    write(folder / "train.jsonl", [{"src": "a", "tgt": "b"}])
    (folder / "test.jsonl").write_text("")
    card(folder, {"default": {"train": "train.jsonl", "test": "test.jsonl"}})

    folder = root / "mtx" / "array"
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps([{"src": "a", "tgt": "b"}, {"src": "c", "tgt": "d"}]))
    card(folder, {"default": {"train": "train.json"}})

    (root / "mtx" / "nothing").mkdir(parents=True)
    (root / "mtx" / "nothing" / "README.md").write_text("nothing here\n")


def answers(hub: Hub, asked: Iterator[str]) -> Iterator[dict[str, Any]]:
    from huggingface_hub import constants

    from mtx.errors import MtxError

    for line in asked:
        ask = json.loads(line)
        try:
            with mock.patch.multiple(constants, **ask.get("constants", {"ENDPOINT": hub.url})):
                yield {"result": answer(hub, ask), **warned()}
        except MtxError as error:
            yield {"error": type(error).__name__, "message": str(error), **warned()}
        except Exception as error:
            yield {"error": f"not an MtxError: {type(error).__name__}", "message": traceback.format_exc()}


def answer(hub: Hub, ask: dict[str, Any]) -> Any:
    from mtx.infra.dataset.download import HFDatasetDownloader

    if "fault" in ask:
        forget()
        hub.fault = Fault(**ask["fault"]) if ask["fault"] else None
        hub.num_bytes = 0
        hub.asked.clear()
        return hub.paths.clear()
    if "hub" in ask:
        if ask["hub"] in ("stop", "start"):
            return getattr(hub, ask["hub"])()
        if ask["hub"] != "address":
            hub.commit = ask["hub"]
        was_run = (hub.root / "was-run").exists()
        num_tokens = len(hub.tokens - {""})
        return {"url": hub.url, "is_down": hub.is_down, "was_run": was_run, "tokens": num_tokens}
    if "prepare" in ask:
        return prepared(hub, ask)
    if "large" in ask:
        return make_large(hub.root / "mtx" / "large", ask["large"])
    if "count" in ask:
        return counted(hub, HFDatasetDownloader(**{"patience_s": 2, **ask["count"]}))
    if "check" in ask:
        from mtx.testing import check_downloader

        broken = HFDatasetDownloader(dataset="mtx/nothing")
        return check_downloader(HFDatasetDownloader(**ask["check"]), broken=broken).num_pairs
    if "info" in ask:
        return asdict(HFDatasetDownloader(**{"patience_s": 2, **ask["info"]}).info())
    counts: dict[str, int] = {}
    downloader = HFDatasetDownloader(**{"patience_s": 2, **ask["rows"]})
    batches = list(downloader.batches(ask["split"], counts))
    rows = [list(row.values()) for batch in batches for row in batch.to_pylist()]
    return {
        "rows": rows,
        "sizes": [len(batch) for batch in batches],
        "counts": counts,
        "paths": hub.paths,
        "num_bytes": hub.num_bytes,
    }


def prepared(hub: Hub, ask: dict[str, Any]) -> Any:
    from mtx.data.filter.none import NoFilter
    from mtx.data.preparation import Recipe, prepare
    from mtx.data.split import HeldOut
    from mtx.data.store import Store
    from mtx.data.tokenize.byte import ByteTokenization
    from mtx.infra.dal.arrow import ArrowFileLayer
    from mtx.infra.dal.sqlite import SQLiteObjectLayer
    from mtx.infra.dataset.download import Downloader, HFDatasetDownloader
    from mtx.infra.dataset.sources.mixture import MixtureDownloader

    def source(options: Row) -> HFDatasetDownloader:
        return HFDatasetDownloader(**{"patience_s": 0.05, **options})

    hub.paths.clear()
    store = Store(root=ask["store"], objects=SQLiteObjectLayer, files=ArrowFileLayer)
    parts: dict[str, Any] = {name: source(options) for name, options in ask.get("mixture", {}).items()}
    sets: dict[str, Downloader] = {name: source(options) for name, options in ask.get("sets", {}).items()}
    downloader = MixtureDownloader(sources=parts) if parts else source(ask["prepare"])
    made = prepare(
        Recipe(downloader, HeldOut(validation=5, test=5, drop_leaks=False), NoFilter(), ByteTokenization(), sets), store
    )
    provenance = {raw: dict(store.repo.manifest(raw).provenance) for raw in made.raw.values()}
    return {"built": made.built, "raw": made.raw, "provenance": provenance, "paths": hub.paths}


def make_large(folder: Path, num_rows: int) -> int:
    """Write one file of JSON Lines with rows of some 240 bytes, and return its size."""
    path = folder / "train.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        line = f'{{"id": %d, "src": "sentence %d", "tgt": "Satz %d{" und so weiter" * 13}"}}\n'
        with path.open("w") as file:
            for first in range(0, num_rows, 10_000):
                file.write("".join(line % (i, i, i) for i in range(first, min(first + 10_000, num_rows))))
        card(folder, {"default": {"train": "train.jsonl"}})
    return path.stat().st_size


def peak_kb() -> int:
    """Return the most memory that this process has held; where Linux does not tell, what its parent held may count."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def counted(hub: Hub, downloader: Any) -> Row:
    """Read the training split, and keep only what tells that it is whole."""
    hub.num_bytes, num_rows, sha256 = 0, 0, hashlib.sha256()
    downloader.info()
    before = peak_kb()
    for batch in downloader.batches("train", {}):
        num_rows += batch.num_rows
        sha256.update("\n".join(batch.column(0).to_pylist()).encode() + b"\n")
    grown_mb = (peak_kb() - before) / 1024
    told = {"num_rows": num_rows, "sha256": sha256.hexdigest(), "num_bytes": hub.num_bytes, "asked": hub.asked}
    return {**told, "grown_mb": grown_mb}


def forget() -> None:
    """Let the client ask for lists of files again, which it keeps."""
    from huggingface_hub import HfFileSystem

    for file_system in (HfFileSystem, *HfFileSystem.__subclasses__()):
        file_system.clear_instance_cache()


class Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


WARNINGS = Warnings()


def warned() -> dict[str, list[str]]:
    """Return what was warned of since the last time, and the notices of a Hub that does not answer."""
    texts, WARNINGS.texts = WARNINGS.texts, []
    notices = [text for text in texts if "Is there a network?" in text]
    return {"warnings": [text for text in texts if text not in notices], "notices": notices}


def shorten_waits() -> None:
    """Let the client ask again at once."""
    import datasets
    from huggingface_hub.utils import _http

    import mtx.infra.dataset.hub.retry

    mtx.infra.dataset.hub.retry.FIRST_WAIT_S = 0.01
    mtx.infra.dataset.hub.retry.MAX_WAIT_S = 0.05
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    datasets.config.STREAMING_READ_RETRY_INTERVAL = datasets.config.STREAMING_OPEN_RETRY_INTERVAL = 0
    for name in ("http_backoff", "http_stream_backoff"):
        function = getattr(_http, name)
        getattr(function, "__wrapped__", function).__kwdefaults__.update(base_wait_time=0.01, max_wait_time=0.01)


def main(folder: Path) -> None:
    make_repositories(folder / "hub")
    with serving(folder / "hub") as hub:
        settings = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        os.environ.update({"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), **settings})
        os.chdir(folder)
        Path("taken").mkdir(exist_ok=True)  # a folder with the name of a dataset
        shorten_waits()
        logging.getLogger("mtx").addHandler(WARNINGS)
        for answered in answers(hub, sys.stdin):
            print(json.dumps(answered), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
