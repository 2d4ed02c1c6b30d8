"""Check that the Hub's client libraries have the undocumented parts that mtx uses, and set a default timeout."""

import math
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from mtx.errors import SourceError
from mtx.infra.dataset.hub.retry import seconds_left

# Parts of the libraries that a new release may change without notice: package, module, attribute path in the module.
REQUIRED_PARTS = (
    ("huggingface_hub", "huggingface_hub.hf_file_system", "HfFileSystemFile._fetch_range"),
    ("huggingface_hub", "huggingface_hub", "HfFileSystem._open"),
    ("huggingface_hub", "huggingface_hub", "HfFileSystem.resolve_path"),
    ("huggingface_hub", "huggingface_hub.utils", "build_hf_headers"),
    ("huggingface_hub", "huggingface_hub.utils", "hf_raise_for_status"),
    ("huggingface_hub", "huggingface_hub.utils", "http_stream_backoff"),
    ("huggingface_hub", "huggingface_hub", "get_session"),
    ("huggingface_hub", "huggingface_hub.constants", "ENDPOINT"),
    ("huggingface_hub", "huggingface_hub.constants", "HF_HUB_DOWNLOAD_TIMEOUT"),
    ("datasets", "datasets", "DatasetBuilder.as_streaming_dataset"),
    ("datasets", "datasets", "IterableDataset.select_columns"),
    ("datasets", "datasets.packaged_modules.json.json", "Json._cast_table"),
    ("datasets", "datasets.packaged_modules.json.json", "JsonConfig.on_mixed_types"),
    ("datasets", "datasets.packaged_modules.parquet.parquet", "ParquetConfig.fragment_scan_options"),
)
MAX_ANSWER_BYTES = 1 << 26  # of JSON; the Hub lists at most 1,000 files in an answer
SUPPORTED_VERSIONS = "'datasets>=5.2,<6' 'huggingface_hub>=2.4,<3'"


@cache
def check_client(*packages: str) -> None:
    """Raise SourceError if the installed version of a package lacks a part in `REQUIRED_PARTS`. Cached."""
    missing: dict[str, list[str]] = {}
    for package, module, path in REQUIRED_PARTS:
        if package in packages and not _has_part(module, path):
            missing.setdefault(package, []).append(f"{module}.{path}")
    if missing:
        told = "; ".join(
            f"{package} {version(package)} has no {', '.join(parts)}" for package, parts in missing.items()
        )
        raise SourceError(
            f"the installed Hugging Face libraries lack parts that mtx needs to read datasets: {told}. "
            f"Install versions that mtx supports: pip install {SUPPORTED_VERSIONS}, or choose another source "
            "with downloader=local"
        )


def set_default_limits() -> None:
    """Limit the time and the size of requests to the Hub, because the client limits neither for lists and commits.

    A request with a timeout keeps it. Every other request fails when no data arrive for HF_HUB_DOWNLOAD_TIMEOUT
    seconds. An answer of the API, which is JSON, fails if it is longer than `MAX_ANSWER_BYTES`.
    """
    from huggingface_hub import get_session

    hooks = get_session().event_hooks
    for kind, hook in (("request", _add_timeout), ("response", limit_answer)):
        if hook not in hooks[kind]:
            hooks[kind] = [*hooks[kind], hook]


def limit_answer(response: Any) -> None:
    """Read the answer of the Hub's API up to the bound. Raises ValueError if it is longer; files are not limited."""
    if not response.request.url.path.startswith("/api/"):
        return
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            response.close()
            raise ValueError(f"the answer is longer than {MAX_ANSWER_BYTES >> 20} MB")
        parts.append(part)
    response._content = b"".join(parts)  # where the client itself keeps what it has read


def _add_timeout(request: Any) -> None:
    from huggingface_hub import constants

    limits = request.extensions.get("timeout") or {}
    if request.method in ("GET", "HEAD") and not any(limits.values()):
        limit_s = min(float(constants.HF_HUB_DOWNLOAD_TIMEOUT), seconds_left() or math.inf)
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), limit_s)


def _has_part(module: str, path: str) -> bool:
    try:
        found: Any = import_module(module)
    except ImportError:
        return False
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True
