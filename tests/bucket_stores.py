"""Stores in buckets, with what they hold, for the tests of remote storage."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

SECRET = "wJalrXUtnFEMI-DUMMY-SECRET"
ROWS = [{"src": f"source {i}", "tgt": f"Ziel {i} \u2028 \x00 🙂"} for i in range(1000)]

MARKS = [
    pytest.mark.skipif(not (find_spec("s3fs") and find_spec("moto")), reason="needs s3fs and moto"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:aiobotocore.*"),
    # s3fs closes its session when the interpreter ends, not when a test does.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def store_at(url: str, cache: Path) -> Store:
    files = partial(ArrowFileLayer)
    return Store(root=url, objects=partial(SQLiteObjectLayer), files=files, cache=cache)


def dataset_of(dataset_id: str = "one", rows: Any = ROWS) -> TranslationDataset:
    return TranslationDataset(id=dataset_id, name="n", stage="raw", split="train", languages=("en", "de"), data=rows)


def keys_of(url: str) -> list[str]:
    import fsspec

    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return sorted(key.removeprefix(root) for key in fs.find(root))


def described(path: Path, text: str) -> None:
    (path / "tokenizer.json").write_text(text)
