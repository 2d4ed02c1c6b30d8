"""Checks of the URL of a remote store, `storage.root`: the URL must be valid and must not contain credentials.

The module only handles text, so that mtx can check the command line before it imports or writes anything.
"""

import os
import re

from mtx.errors import ConfigError
from mtx.redaction_and_escaping import redacted_address

URL_PATTERN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
CREDENTIALS_HINT = "fsspec reads credentials from environment variables or from files such as ~/.aws"


def is_url(root: str | os.PathLike[str]) -> bool:
    """Return whether the root of a store is a URL such as `s3://bucket/prefix`; False for a local folder."""
    return "://" in os.fspath(root)


def checked_url(root: str) -> str:
    """Return the URL of a remote store without trailing slashes.

    Raises ConfigError if the URL contains a user, a password or a query, because URLs appear in logs and reports.
    Raises ConfigError also if the URL chains two file systems or names a local folder.
    """
    found = URL_PATTERN.fullmatch(root)
    if "@" in root or "?" in root or "#" in root:
        raise ConfigError(
            f"storage.root must be a URL without user, password and query, such as s3://BUCKET/PREFIX, but is "
            f"{redacted_address(root)}. Remove these parts; {CREDENTIALS_HINT}"
        )
    if found is None or "::" in root or not found[2].strip("/") or ".." in found[2].split("/"):
        raise ConfigError(
            f"storage.root must be a URL such as s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or memory://NAME, "
            f"but is {root!r}. Correct the URL"
        )
    if found[1].lower() in ("file", "local"):
        raise ConfigError(
            f"storage.root must be the URL of a remote store or the path of a folder, but is {root!r}. "
            f"For the local folder, set storage.root=/{found[2].strip('/')}"
        )
    return f"{found[1].lower()}://{found[2].rstrip('/')}"
