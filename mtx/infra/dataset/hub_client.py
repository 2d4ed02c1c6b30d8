"""What mtx needs of the Hub's client libraries beyond what they promise: looked for once, and missed by name."""

from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from mtx.errors import SourceError

# Parts that a release may move or drop without notice: package, module, path inside it.
NEEDED = (
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
WORKS_WITH = "'datasets>=5.2,<6' 'huggingface_hub>=2.4,<3'"


@cache
def check_client(*packages: str) -> None:
    """Look for what is needed of these packages. Raises SourceError where the versions installed have not all."""
    missing: dict[str, list[str]] = {}
    for package, module, path in NEEDED:
        if package in packages and not _has(module, path):
            missing.setdefault(package, []).append(f"{module}.{path}")
    if missing:
        told = "; ".join(
            f"{package} {version(package)} has no {', '.join(parts)}" for package, parts in missing.items()
        )
        raise SourceError(
            f"datasets of the Hugging Face Hub are read with parts of its libraries that are not there: {told}. "
            f"Install versions that mtx is tested with: pip install {WORKS_WITH}, or choose another source with "
            "downloader=local"
        )


def limit_waiting() -> None:
    """Let no question to the Hub wait for ever: the client sets no time limit when it lists files or asks for a commit.

    A question that has a limit keeps it; others end where nothing came for HF_HUB_DOWNLOAD_TIMEOUT seconds.
    """
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["request"]
    if _limit not in hooks:
        hooks.append(_limit)


def _limit(request: Any) -> None:
    from huggingface_hub import constants

    limits = request.extensions.get("timeout") or {}
    if request.method in ("GET", "HEAD") and not any(limits.values()):
        limit_s = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), limit_s)


def _has(module: str, path: str) -> bool:
    try:
        found: Any = import_module(module)
    except ImportError:
        return False
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True
