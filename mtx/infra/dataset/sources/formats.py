"""The formats of local files: the module that reads each format, and the endings of file names for each format."""

from mtx.infra.dataset.sources import delimited, jsonl, mo, opus_zip, parquet, po, tmx, xliff
from mtx.infra.dataset.sources.format_protocol import FormatReader

READERS: dict[str, FormatReader] = {
    "jsonl": jsonl,
    "tsv": delimited,
    "csv": delimited,
    "parquet": parquet,
    "tmx": tmx,
    "xliff": xliff,
    "po": po,
    "mo": mo,
    "opus": opus_zip,
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
