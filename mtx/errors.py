"""All errors that mtx raises on purpose.

    MtxError
    ├── ConfigError           a key, an option or a value in the configuration is not valid
    │   └── OwnCodeError          a checkpoint needs a class of the user, whose name the user has to type
    ├── SourceError           a source is unreadable
    │   ├── MalformedPairError    one line or row of a source is not a pair of texts
    │   └── UnreachableError      the server of a source does not answer, or must not be asked (offline mode)
    ├── StoreError            an operation of the store has failed
    │   ├── NotStoredError        nothing is stored under a name
    │   ├── AlreadyStoredError    something is already stored under a name, and is kept
    │   ├── DamagedError          stored data does not match its manifest
    │   ├── NewerFormatError      stored data was written by a newer version of mtx, and is not changed
    │   └── InUseError            another process or thread uses the item
    ├── JobFailedError        a job of a sweep ended with an error that is not an MtxError
    └── DataError             a stage cannot process its data
        ├── EmptyDatasetError     no pair is left
        └── TokenizerError        a tokenizer is missing, incomplete, or of another kind

A message states the problem, the rule, the value found, and the key to change. Messages are safe to print and log: they
contain no terminal control characters and no credentials.
"""

import difflib
import re
import shlex
from collections.abc import Iterable

from mtx.redaction_and_escaping import one_line, redacted_text, visible_text

__all__ = [
    "AlreadyStoredError",
    "ConfigError",
    "DamagedError",
    "DataError",
    "EmptyDatasetError",
    "InUseError",
    "JobFailedError",
    "MalformedPairError",
    "MtxError",
    "NewerFormatError",
    "NotStoredError",
    "OwnCodeError",
    "SourceError",
    "StoreError",
    "TokenizerError",
    "UnreachableError",
    "choices",
    "override_text",
]

PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./+@%-]+")  # what Hydra's grammar takes without quotes
DOUBLE_QUOTED = re.compile(r"[^\"\\$`!]*")  # what a shell leaves unchanged between double quotes


class MtxError(Exception):
    """Base class of all errors that mtx raises on purpose."""

    def __str__(self) -> str:
        return visible_text(redacted_text(Exception.__str__(self)))


class ConfigError(MtxError):
    """A key, an option or a value in the configuration is not valid."""


class OwnCodeError(ConfigError):
    """A checkpoint needs a class of the user, which mtx does not build by the checkpoint's own word."""


class SourceError(MtxError):
    """A source of data is unreadable."""


class MalformedPairError(SourceError):
    """One line or row of a source is not a pair of texts."""


class UnreachableError(SourceError):
    """The server of a source does not answer, or must not be asked. Recorded revisions of the source stay valid."""


class StoreError(MtxError):
    """An operation of the store has failed."""


class NotStoredError(StoreError, KeyError):
    """Nothing is stored under a requested name."""

    __str__ = MtxError.__str__  # KeyError.__str__ would put the message in quotes


class AlreadyStoredError(StoreError):
    """Something is already stored under a name, and is kept."""


class DamagedError(StoreError):
    """Stored data does not match its manifest."""


class NewerFormatError(StoreError):
    """Stored data was written by a newer version of mtx, and is not changed."""


class InUseError(StoreError):
    """Another process or thread uses the item, so the operation is refused."""


class JobFailedError(MtxError):
    """A job of a sweep ended with an error that is not an MtxError; the log of the job has the details."""


class DataError(MtxError):
    """A stage cannot process its data."""


class EmptyDatasetError(DataError):
    """No pair is left in a dataset that needs pairs."""


class TokenizerError(DataError):
    """A tokenizer is missing, incomplete, or of another kind."""


def choices(value: str, known: Iterable[str]) -> str:
    """Return the `known` names for an error message as `a, b, c`, those most similar to `value` first."""
    names = sorted({one_line(name) for name in known})
    lowered = {name.lower(): name for name in names}
    similar = difflib.get_close_matches(value.lower(), lowered, n=len(names) or 1, cutoff=0.6)
    close = [lowered[name] for name in similar]
    return ", ".join([*close, *(name for name in names if name not in close)]) or "none"


def override_text(key: str, value: str) -> str:
    """Return the override `key=value` as it is typed in a shell, quoted for Hydra's grammar and for the shell."""
    if PLAIN_VALUE.fullmatch(value):
        return f"{key}={value}"
    return _shell_text(f"{key}={_hydra_text(value)}")


def override_list_text(key: str, values: Iterable[str]) -> str:
    """Return the override of a list of texts as it is typed in a shell; see `override_text`."""
    return _shell_text(f"{key}=[{', '.join(map(_hydra_text, values))}]")


def _hydra_text(value: str) -> str:
    inner = re.sub(r"(\\*)'", r"\1\1\\'", value)  # backslashes count as escapes only before a quote
    inner = re.sub(r"(\\+)$", r"\1\1", inner)
    return f"'{inner}'"


def _shell_text(text: str) -> str:
    return f'"{text}"' if DOUBLE_QUOTED.fullmatch(text) else shlex.quote(text)
