"""Every error that mtx raises on purpose.

    MtxError
    ├── ConfigError           a key, a choice or a value in the configuration
    ├── SourceError           a source that cannot be read as it is
    │   ├── MalformedPairError    one line or row of it
    │   └── UnreachableError      a server that does not answer, or may not be asked
    ├── StoreError            the store on disk
    │   ├── NotStoredError        nothing under that name
    │   ├── AlreadyStoredError    something is under that name, and is kept
    │   ├── DamagedError          what is stored does not match its manifest
    │   ├── NewerFormatError      written by a newer mtx; left as it is
    │   └── InUseError            another process is at work on it
    ├── JobFailedError        a job of a sweep, by an error that is none of these
    └── DataError             data that a stage cannot go on with
        ├── EmptyDatasetError     no pair is left
        └── TokenizerError        a tokenizer that is missing, of another kind, or incomplete

A message says what was wrong, the rule, the value found, and what to do next with the key to change. It may be printed
and logged as it is: what it quotes of files and texts holds no control of a terminal, and no credentials.
"""

import difflib
from collections.abc import Iterable

from mtx.shown import redacted, shown

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
    "SourceError",
    "StoreError",
    "TokenizerError",
    "UnreachableError",
    "choices",
]


class MtxError(Exception):
    """Base of all errors that mtx raises on purpose."""

    def __str__(self) -> str:
        return shown(redacted(Exception.__str__(self)))


class ConfigError(MtxError):
    """A key, a choice or a value in the configuration is not valid."""


class SourceError(MtxError):
    """A source cannot be read as it is."""


class MalformedPairError(SourceError):
    """One line or row of a source is no pair of texts."""


class UnreachableError(SourceError):
    """A source's server does not answer, or is not to be asked: what was learnt of it before still holds."""


class StoreError(MtxError):
    """The store cannot do what was asked."""


class NotStoredError(StoreError, KeyError):
    """Nothing is stored under that name."""

    __str__ = MtxError.__str__  # KeyError's would show the message in quotes


class AlreadyStoredError(StoreError):
    """Something is stored under that name already; it is kept."""


class DamagedError(StoreError):
    """What is stored does not match its manifest."""


class NewerFormatError(StoreError):
    """What is stored was written by a newer mtx, and is left as it is."""


class InUseError(StoreError):
    """Another process, or another thread, is at work on it."""


class JobFailedError(MtxError):
    """A job of a sweep was ended by an error that is no MtxError; its log has the details."""


class DataError(MtxError):
    """A stage cannot go on with the data it was given."""


class EmptyDatasetError(DataError):
    """No pair is left."""


class TokenizerError(DataError):
    """A tokenizer is missing, of another kind, or incomplete."""


def choices(value: str, known: Iterable[str]) -> str:
    """List `known` for an error message, those most like `value` first: `a, b, c`."""
    names = sorted(set(known))
    close = difflib.get_close_matches(value, names, n=len(names) or 1, cutoff=0.6)
    return ", ".join([*close, *(name for name in names if name not in close)]) or "none"
