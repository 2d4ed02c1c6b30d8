"""Addresses of remote stores: which they are, and that no secret is in them.

Text alone, so that the command line can be looked at before anything is imported or written.
"""

import os
import re

from mtx.errors import ConfigError
from mtx.shown import redacted_address

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
WHERE = "Credentials are taken from where fsspec looks for them: environment variables or files such as ~/.aws"


def is_url(root: str | os.PathLike[str]) -> bool:
    """Tell whether a store's root is an address such as `s3://bucket/prefix`, and no folder."""
    return "://" in os.fspath(root)


def checked_url(root: str) -> str:
    """Return the address of a remote store, without slashes at its end.

    Raises ConfigError where it holds a user, a password or a query, which end up in logs and reports; where it leads
    through a second file system; and where it names a local folder.
    """
    found = URL.fullmatch(root)
    if "@" in root or "?" in root or "#" in root:
        raise ConfigError(
            f"storage.root is an address without user, password and query, as s3://BUCKET/PREFIX, but is "
            f"{redacted_address(root)}. {WHERE}. Set storage.root to the address alone"
        )
    if found is None or "::" in root or not found[2].strip("/") or ".." in found[2].split("/"):
        raise ConfigError(
            f"storage.root is one address, as s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or memory://NAME, but is {root!r}"
        )
    if found[1].lower() in ("file", "local"):
        raise ConfigError(
            f"storage.root is an address of a remote store, or a folder, but is {root!r}. "
            f"For the folder, set storage.root=/{found[2].strip('/')}"
        )
    return f"{found[1].lower()}://{found[2].rstrip('/')}"
