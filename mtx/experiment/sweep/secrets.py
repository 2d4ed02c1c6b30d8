"""Passwords and tokens in a config, kept out of what is written into output folders."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

HIDDEN = "***"
SECRET_KEY = re.compile(
    r"(?:^|_)(?:token|password|passwd|passphrase|secret|credentials|(?:api|access|secret|private)_?key)$"
)
IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")  # user:password in https://user:password@host
SHORTEST = 4  # characters; hiding each occurrence of less would make texts unreadable


def hider(config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function that hides, in texts and in what holds texts, the secrets of `config` wherever they occur."""
    secrets = sorted({secret for secret in _secrets(config) if len(secret) >= SHORTEST}, key=len, reverse=True)

    def hide(value: Any, *, key: str = "") -> Any:
        if isinstance(value, Mapping):
            return {name: hide(item, key=str(name)) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [hide(item) for item in value]
        if not isinstance(value, str):
            return value if value is None or isinstance(value, (bool, int, float)) else str(value)
        if value and SECRET_KEY.search(key.lower()):
            return HIDDEN
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return IN_ADDRESS.sub(HIDDEN, value)

    return hide


def _secrets(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets(item, str(name))
    elif isinstance(value, str) and SECRET_KEY.search(key.lower()):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(item)
