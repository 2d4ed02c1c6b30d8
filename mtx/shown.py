"""What people and logs get to see: no control of their terminal, and no secrets.

Corpora, file names and column names are written by others. On a terminal, a few of their characters could clear the
screen, turn lines around or set the clipboard; so whatever is printed or logged goes through `shown`. Credentials may
stand in addresses; so the same goes through `redacted`.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from typing_extensions import override

HIDDEN = "***"
MIN_SECRET_CHARS = 6  # a shorter value of a variable or a key stands in too many texts by chance

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
    (
        re.compile(
            r"(?i)(X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)=|[?&](?:sig|(?:\w{1,32}_)?token)=)"
            r"[^&\s'\"]{1,2048}"
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            r"(?i)((?:secret|passw(?:or)?d|api_?key|access_key(?:_id)?|account_key|hf_token|auth_token|session_token)"
            r"['\"]?[=:] ?['\"]?)(?!\*\*\*|null\b|none\b)[^\s'\",&}]{1,512}"
        ),
        rf"\1{HIDDEN}",
    ),
)
# Keys of a config whose values are credentials. `unk_token` and `max_tokens` are none.
SECRET_KEY = re.compile(
    r"(?i)(?:^|[._])(?:passw(?:or)?d|passphrase|secret(?:_\w+)?|credentials?|(?:api|access|account|private)_?keys?(?:_id)?)$"
    r"|(?:^|\.|(?:^|[._])(?:hf|hub|auth|access|session|api|bearer|security|refresh)_)token$"
    r"|^storage\.(?:\w+\.)*(?:\w+_)?(?:keys?|token)$"
)
IN_BRACES = re.compile(r"([{,]\s*['\"]?(\w+)['\"]?\s*:\s*)([^,{}\s][^,{}]*)")  # {key: value} in an override
NO_SECRET = re.compile(r"(?i)(?:null|none|true|false|\?\?\?|\*\*\*|\$\{.*|['\"]*)\s*$")  # `${…}` says where one is
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


def redacted_address(address: str) -> str:
    """Return an address as far as it can hold no credential: without what stands before an @, and without a query."""
    protocol, mark, rest = address.partition("://")
    _, at, place = rest.rpartition("@")
    bare = re.split(r"[?#]", place, maxsplit=1)
    return f"{protocol}{mark}{HIDDEN + '@' if at else ''}{bare[0]}{'?' + HIDDEN if len(bare) > 1 else ''}"


def redacted_override(text: str) -> str:
    """Return an override, `key=value`, with `***` for the value where the key is one of a credential."""
    key, equals, value = text.partition("=")
    if equals and SECRET_KEY.search(key.lstrip("+~")) and not NO_SECRET.match(value):
        return f"{key}={HIDDEN}"
    return redacted(IN_BRACES.sub(_hidden_by_key, text))


def redacted_json(value: Value, secrets: Sequence[str] = ()) -> Value:
    """Return a value of JSON's types with every text in it redacted, and texts at keys of credentials hidden.

    Keys stay. `secrets` are hidden wherever they stand.
    """
    if isinstance(value, str):
        text: str = value
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        return redacted(text)  # type: ignore[return-value]  # a str for a str
    if isinstance(value, Mapping):
        return {  # type: ignore[return-value]  # a dict for a mapping
            key: HIDDEN if _is_secret(key, item) else redacted_json(item, secrets) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted_json(item, secrets) for item in value]  # type: ignore[return-value]  # as JSON has it
    return value


def hider(config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return `redacted_json`, which also hides what `config` has at keys of credentials, wherever it stands."""
    secrets = sorted({secret for secret in _secrets(config) if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True)
    return lambda value: redacted_json(value, secrets)


class PlainFormatter(logging.Formatter):
    """Formats log records for terminals and log files, with `shown` and `redacted`; conf/config.yaml names it."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return shown(redacted(super().format(record)))


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _is_secret(key: object, value: object) -> bool:
    return isinstance(value, str) and bool(SECRET_KEY.search(str(key))) and not NO_SECRET.match(value)


def _secrets(value: object, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets(item, str(name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(item, key)
    elif isinstance(value, str) and _is_secret(key, value):
        yield value


def _hidden_by_key(found: re.Match[str]) -> str:
    return f"{found[1]}{HIDDEN}" if _is_secret(found[2], found[3]) else found[0]
