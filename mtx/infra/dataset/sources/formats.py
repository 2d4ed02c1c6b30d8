"""The formats of local files, each read by a module of its own, and the endings of names that tell them."""

from mtx.infra.dataset.sources import delimited, jsonl, mo, opus, parquet, po, tmx, xliff
from mtx.infra.dataset.sources.reader import Reader

READERS: dict[str, Reader] = {
    "jsonl": jsonl,
    "tsv": delimited,
    "csv": delimited,
    "parquet": parquet,
    "tmx": tmx,
    "xliff": xliff,
    "po": po,
    "mo": mo,
    "opus": opus,
}
ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tsv": "tsv",
    ".csv": "csv",
    ".parquet": "parquet",
    ".tmx": "tmx",
    ".xlf": "xliff",
    ".xliff": "xliff",
    ".po": "po",
    ".mo": "mo",
    ".zip": "opus",
}
