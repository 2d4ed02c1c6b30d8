"""What people and logs get to see: no control of their terminal, and no secrets.

Corpora, file names and column names are written by others. On a terminal, a few of their characters could clear the
screen, turn lines around or set the clipboard; so whatever is printed or logged goes through `shown`. Credentials may
stand in addresses; so the same goes through `redacted`.
"""

import logging
import os
import re
from collections.abc import Mapping
from typing import TypeVar

from typing_extensions import override

HIDDEN = "***"
MIN_SECRET_CHARS = 8  # a shorter value of a variable stands in too many texts by chance

# Controls (C0 without tab and line feed, DEL, C1), what changes the direction of a line, line ends that only some
# terminals know, and lone surrogates, which no terminal can be sent.
NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")

# Each looks at bounded stretches without white space, so that its time grows with the length of the text alone.
SECRETS = (
    # https://user:password@host; a password may have slashes, as AWS's have, but a port is none
    (re.compile(r"(://)[^\s/@:'\"]{1,256}:(?!\d{1,5}/)[^\s@'\"]{1,512}@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(://)[^\s/@:'\"?#]{1,512}@"), rf"\1{HIDDEN}@"),  # https://token@host
    (re.compile(r"\bhf_[A-Za-z0-9]{16,256}"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,256}"), HIDDEN),
    (re.compile(r"(?i)(\bbearer )[A-Za-z0-9._~+/=-]{8,2048}"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s'\"]{1,2048}"), rf"\1{HIDDEN}"),
    (
        re.compile(
            r"(?i)((?:secret|passw(?:or)?d|api_?key|access_key(?:_id)?|account_key|hf_token|auth_token|session_token)"
            r"['\"]?[=:] ?['\"]?)(?!\*\*\*|null\b|none\b)[^\s'\",&}]{1,512}"
        ),
        rf"\1{HIDDEN}",
    ),
)
SECRET_VARIABLE = re.compile(r"(?i)(?:^|_)(?:token|secret|password|passwd|access_key|api_key|secret_\w+)$")

Value = TypeVar("Value")


def shown(text: str) -> str:
    r"""Return the text as a terminal may have it: `\x1b` as four visible characters, and so on.

    Letters of any script, marks that join or combine, tabs and line feeds stay as they are.
    """
    return NOT_SHOWN.sub(lambda found: _escape(found[0]), text)


def redacted(text: str) -> str:
    """Return the text with `***` where a credential stands.

    Found are users and passwords in addresses, tokens and keys of well-known form, values that are said to be a
    password or a secret, and the values of environment variables such as HF_TOKEN or AWS_SECRET_ACCESS_KEY.
    """
    for name, secret in os.environ.items():
        if len(secret) >= MIN_SECRET_CHARS and secret in text and SECRET_VARIABLE.search(name):
            text = text.replace(secret, HIDDEN)
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text


def redacted_json(value: Value) -> Value:
    """Return a value of JSON's types with every text in it redacted; keys stay."""
    if isinstance(value, str):
        return redacted(value)  # type: ignore[return-value]  # a str for a str
    if isinstance(value, Mapping):
        return {key: redacted_json(item) for key, item in value.items()}  # type: ignore[return-value]  # a dict
    if isinstance(value, (list, tuple)):
        return [redacted_json(item) for item in value]  # type: ignore[return-value]  # as JSON has it
    return value


class PlainFormatter(logging.Formatter):
    """Formats log records for terminals and log files, with `shown` and `redacted`; conf/config.yaml names it."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return shown(redacted(super().format(record)))


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
