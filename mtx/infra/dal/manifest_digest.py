"""Digests of manifests, and JSON files with a fixed byte form. Both detect changes of stored JSON.

A manifest contains the SHA-256 of its own content. mtx writes each JSON value as one fixed sequence of bytes. A JSON
file with the same content in other bytes therefore counts as damaged, and every changed byte is detected.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtx.components.identity import JSON, plain_value
from mtx.errors import DamagedError, NewerFormatError
from mtx.library_errors import library_reason

DIGEST_KEY = "manifest_sha256"
VERIFY_HINT = "Run mtx task=verify full=true repair=true, which moves damaged data away; the next run builds it again"


def fields_with_digest(fields: Mapping[str, Any]) -> dict[str, JSON]:
    """Return `fields` as plain JSON values, with their SHA-256 under the key `manifest_sha256`."""
    content = plain_value({name: value for name, value in fields.items() if name != DIGEST_KEY})
    assert isinstance(content, dict)
    return {**content, DIGEST_KEY: _digest(content)}


def check_digest(manifest: Mapping[str, JSON], what: str) -> None:
    """Compare the content of a manifest with the digest in the manifest.

    Args:
        manifest: the content of the manifest, including its digest.
        what: name of the manifest in the error message.

    Raises DamagedError if the content does not match the digest.
    """
    content = {name: value for name, value in manifest.items() if name != DIGEST_KEY}
    if manifest.get(DIGEST_KEY) != _digest(content):
        raise DamagedError(f"{what} has changed on disk: its content does not match its digest. {VERIFY_HINT}")


def format_version(manifest: Mapping[str, JSON], what: str, known: int) -> int:
    """Return the format version of a manifest, from 1 to `known`.

    Args:
        manifest: the content of the manifest.
        what: name of the manifest in the error message.
        known: newest format version that this version of mtx reads.

    Raises NewerFormatError if the version is above `known`, and DamagedError if there is no valid version.
    """
    found = manifest.get("format_version")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise DamagedError(
            f"format_version in {what} must be a number from 1 to {known}, but is {found!r}. {VERIFY_HINT}"
        )
    if found > known:
        raise NewerFormatError(
            f"{what} has format version {found}, but this mtx knows versions 1 to {known}. A newer mtx wrote it, "
            "and nothing was changed. Upgrade mtx, or use another store with storage.root=FOLDER"
        )
    return found


def json_bytes(value: JSON) -> bytes:
    """Return the fixed sequence of bytes that mtx writes to a file for the JSON value `value`."""
    return json.dumps(value, indent=1, sort_keys=True).encode()


def read_json(path: Path, what: str) -> JSON:
    """Return the value in the JSON file `path`; `what` names the file in error messages.

    Raises DamagedError if the bytes are not exactly those that mtx writes, and OSError if the file cannot be opened.
    """
    content = path.read_bytes()
    try:
        value: JSON = json.loads(content)
        same = json_bytes(value) == content
    except (ValueError, RecursionError) as error:
        raise DamagedError(
            f"{what} cannot be read: {path} is not valid JSON: {library_reason(error)}. {VERIFY_HINT}"
        ) from error
    if not same:
        raise DamagedError(f"{what} has changed on disk: the bytes of {path} are not as mtx writes them. {VERIFY_HINT}")
    return value


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
