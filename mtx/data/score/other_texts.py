"""Texts in another language, from a file of the user, from which the noise `wrong_language` is planted."""

import zlib
from pathlib import Path

from mtx.errors import ConfigError, DataError
from mtx.library_errors import library_reason

TRAINING, MEASURING = 0, 1  # the halves of the texts


def other_texts(path: str | None, key: str, half: int) -> list[str]:
    """Return one half of the different lines of a file, in order; empty without a file.

    A scorer that trains on planted noise learns from one half, and `task=scores` measures with the other.

    Args:
        path: a text file in UTF-8 with one text per line; None: no file.
        key: the key of the config that names the file, for messages.
        half: `TRAINING` or `MEASURING`.

    Raises:
        ConfigError: the file cannot be read.
        DataError: it is not UTF-8, or a half of it has no text.
    """
    if path is None:
        return []
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{key} names a file with one text per line, but {path} cannot be read: {library_reason(error)}. Set "
            f"{key}=FILE, or {key}=null for no noise wrong_language"
        ) from error
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} must be text in UTF-8, but byte {error.start} is not. Convert it: iconv -t UTF-8"
        ) from error
    found = [line for line in dict.fromkeys(lines) if line and zlib.crc32(line.encode()) & 1 == half]
    if not found:
        raise DataError(
            f"{path} must have texts in another language, one per line, but has {len(set(lines) - {''})}. One half of "
            f"them trains and the other measures. Add lines, or set {key}=null"
        )
    return found
