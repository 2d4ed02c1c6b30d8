"""Manifests that tell when they were changed, and files of JSON that can be written in one way only.

A sealed manifest carries the SHA-256 of its own content. A file of JSON is damaged also where its content is the same
but its bytes are not those that mtx writes, so that no byte of it can change unseen.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtx.errors import DamagedError, NewerFormatError
from mtx.identity import JSON, plain

SEAL = "manifest_sha256"
VERIFY = "Set it aside with mtx task=verify repair=true, and the next run builds it again"


def sealed(fields: Mapping[str, Any]) -> dict[str, JSON]:
    """Return `fields` as JSON with their digest, under `manifest_sha256`."""
    content = plain({name: value for name, value in fields.items() if name != SEAL})
    assert isinstance(content, dict)
    return {**content, SEAL: _digest(content)}


def check_seal(manifest: Mapping[str, JSON], what: str) -> None:
    """Compare a manifest with its own digest; `what` names it. Raises DamagedError."""
    content = {name: value for name, value in manifest.items() if name != SEAL}
    if manifest.get(SEAL) != _digest(content):
        raise DamagedError(f"{what} has changed on disk: its content does not match the digest in it. {VERIFY}")


def format_version(manifest: Mapping[str, JSON], what: str, known: int) -> int:
    """Return the format version of a manifest, 1 to `known`. Raises NewerFormatError, or DamagedError."""
    found = manifest.get("format_version")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise DamagedError(f"{what} names no format version from 1 to {known}: {found!r} found. {VERIFY}")
    if found > known:
        raise NewerFormatError(
            f"{what} has format version {found}, but this mtx knows versions 1 to {known}. It was written by a newer "
            "mtx, and is left as it is. Use that version, or another folder with storage.root=FOLDER"
        )
    return found


def json_bytes(value: JSON) -> bytes:
    """Return the one way in which `value` is written to a file."""
    return json.dumps(value, indent=1, sort_keys=True).encode()


def read_json(path: Path, what: str) -> JSON:
    """Return what a file of JSON says. Raises DamagedError where mtx did not write it so, and OSError."""
    content = path.read_bytes()
    try:
        value: JSON = json.loads(content)
        same = json_bytes(value) == content
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{what} cannot be read: {path} is no JSON: {error}. {VERIFY}") from error
    if not same:
        raise DamagedError(f"{what} has changed on disk: the bytes of {path} are not as mtx writes them. {VERIFY}")
    return value


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
