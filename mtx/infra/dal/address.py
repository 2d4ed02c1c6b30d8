"""Addresses of remote stores: which they are, and that no secret is in them.

Text alone, so that the command line can be looked at before anything is imported or written.
"""

import os
import re
from collections.abc import Iterable

from mtx.errors import ConfigError

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
USER = re.compile(r"(://)[^/@\s]*(?:/[^/@\s]*)*@")  # up to the last @: an unescaped password may hold a slash
QUERY = re.compile(r"(://[^\s?#]*)[?#]\S*")
SECRET = re.compile(r"(?:^|_|\.)(?:key|keys|secret|password|passwd|token|credentials?)(?:_id)?$", re.IGNORECASE)
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
            f"{redacted(root)}. {WHERE}. Set storage.root to the address alone"
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


def redacted(text: str) -> str:
    """Return `text` without what addresses in it say about users, passwords and queries."""
    return QUERY.sub(r"\1?***", USER.sub(r"\1***@", text))


def refuse_secrets(overrides: Iterable[str]) -> None:
    """Look at what was said on a command line, before it is written down anywhere. Raises ConfigError.

    Hydra writes all overrides into the run's folder, so a secret has to be found earlier.
    """
    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        if not equals or not key.startswith("storage."):
            continue
        if SECRET.search(key):
            raise ConfigError(f"{key} looks like a secret, which mtx takes no part in and would write down. {WHERE}")
        for root in value.strip("\"'").split(",") if key == "storage.root" else ():
            if is_url(root):
                checked_url(root.strip("\"' "))
