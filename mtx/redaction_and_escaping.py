"""Redaction of texts for terminals and logs: escapes control characters, and hides credentials.

Corpora, file names and column names are untrusted. Some of their characters could clear a terminal, reverse the text
direction or change the clipboard. All printed and logged text therefore passes through `visible_text`. URLs may contain
credentials, so all text also passes through `redacted_text`.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from typing_extensions import override

HIDDEN_TEXT = "***"
MIN_SECRET_CHARS = 6  # shorter values of secret variables and keys are not hidden, because they occur in many texts

# Control characters (C0 without tab and line feed, DEL, C1), and characters that change the text direction. Also line
# ends that only some terminals support, and lone surrogates, which cannot be encoded for a terminal.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")

# All patterns have bounded repetitions without white space, so that matching takes linear time in the text's length.
SECRET_PATTERNS = (
    # https://user:password@host. A password may contain slashes, as keys of AWS do; "host:port/" is not matched.
    (re.compile(r"(://)[^\s/@:'\"]{1,256}:(?!\d{1,5}/)[^\s@'\"]{1,512}@"), rf"\1{HIDDEN_TEXT}@"),
    (re.compile(r"(://)[^\s/@:'\"?#]{1,512}@"), rf"\1{HIDDEN_TEXT}@"),  # https://token@host
    (re.compile(r"\bhf_[A-Za-z0-9]{16,256}"), HIDDEN_TEXT),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN_TEXT),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,256}"), HIDDEN_TEXT),
    (re.compile(r"(?i)(\bbearer )[A-Za-z0-9._~+/=-]{8,2048}"), rf"\1{HIDDEN_TEXT}"),
    (
        re.compile(
            r"(?i)(X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)=|[?&](?:sig|(?:\w{1,32}_)?token)=)"
            r"[^&\s'\"]{1,2048}"
        ),
        rf"\1{HIDDEN_TEXT}",
    ),
    (
        re.compile(
            r"(?i)((?:secret|passw(?:or)?d|api_?key|access_key(?:_id)?|account_key|hf_token|auth_token|session_token)"
            r"['\"]?[=:] ?['\"]?)(?!\*\*\*|null\b|none\b|\$\{)[^\s'\",&}]{1,512}"
        ),
        rf"\1{HIDDEN_TEXT}",
    ),
)
# Config keys whose values are credentials. Keys such as `unk_token` and `max_tokens` do not match.
SECRET_KEY = re.compile(
    r"(?i)(?:^|[._])(?:passw(?:or)?d|passphrase|secret(?:_\w+)?|credentials?|(?:api|access|account|private)_?keys?(?:_id)?)$"
    r"|(?:^|\.|(?:^|[._])(?:hf|hub|auth|access|session|api|bearer|security|refresh)_)token$"
    r"|^storage\.(?:\w+\.)*(?:\w+_)?(?:keys?|token)$"
)
IN_BRACES = re.compile(r"([{,]\s*['\"]?(\w+)['\"]?\s*:\s*)([^,{}\s][^,{}]*)")  # {key: value} inside an override
NON_SECRET_VALUE = re.compile(
    r"(?i)(?:null|none|true|false|\?\?\?|\*\*\*|\$\{.*|['\"]*)\s*$"
)  # an interpolation `${…}` only names the source of a secret
SECRET_VARIABLE = re.compile(r"(?i)(?:^|_)(?:token|secret|password|passwd|access_key|api_key|secret_\w+)$")

Value = TypeVar("Value")
# Line ends, and lone surrogates: bytes of a file name that are not UTF-8, and half characters, which no file can store.
UNSTORABLE = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029\ud800-\udfff]")


def visible_text(text: str) -> str:
    r"""Return the text with control characters as visible escapes, such as `\x1b` for the escape character.

    Letters of all scripts, combining marks, joiners, tabs and line feeds stay unchanged.
    """
    return INVISIBLE.sub(lambda found: _escaped_character(found[0]), text)


def one_line(text: str) -> str:
    r"""Return a name, such as that of a file, as text that stays within a line, and that UTF-8 can store.

    Line ends become escapes, and a byte that is not UTF-8 becomes `\xfc`. Use the function for each name in a message
    that the user's files choose. A line end would start a line that looks like another message.
    """
    return UNSTORABLE.sub(lambda found: _escaped_name_character(found[0]), text)


def safe_line(text: str) -> str:
    """Return any text as one visible line without credentials."""
    return one_line(visible_text(redacted_text(text)))


def environment_secrets(text: str | None = None) -> tuple[str, ...]:
    """Return the values of environment variables such as HF_TOKEN or AWS_SECRET_ACCESS_KEY; only those in a text."""
    values = (os.environ.get(name, "") for name in os.environ if _holds_secret(name))
    return tuple(each for each in values if len(each) >= MIN_SECRET_CHARS and (text is None or each in text))


@lru_cache(maxsize=10_000)  # each printed text looks through all variables
def _holds_secret(variable: str) -> bool:
    return bool(SECRET_VARIABLE.search(variable))


def redacted_text(text: str, secrets: Sequence[str] | None = None) -> str:
    """Return the text with each credential replaced by `***`.

    Credentials are users and passwords in URLs, tokens and keys of well-known forms, and values after words such as
    `password=`. Those of environment variables are credentials, too.

    Args:
        text: the text.
        secrets: the result of `environment_secrets`, for a caller with many texts; None reads the environment.
    """
    if secrets is None:
        secrets = environment_secrets(text)
    for secret in secrets:
        text = text.replace(secret, HIDDEN_TEXT)
    for pattern, instead in SECRET_PATTERNS:
        text = pattern.sub(instead, text)
    return text


def redacted_address(address: str) -> str:
    """Return a URL without the parts that may hold credentials: the part before `@`, and the query."""
    protocol, mark, rest = address.partition("://")
    _, at, place = rest.rpartition("@")
    bare = re.split(r"[?#]", place, maxsplit=1)
    return f"{protocol}{mark}{HIDDEN_TEXT + '@' if at else ''}{bare[0]}{'?' + HIDDEN_TEXT if len(bare) > 1 else ''}"


def redacted_override(text: str) -> str:
    """Return an override `key=value` with `***` as the value if the key is that of a credential."""
    key, equals, value = text.partition("=")
    if equals and SECRET_KEY.search(key.lstrip("+~")) and not NON_SECRET_VALUE.match(value):
        return f"{key}={HIDDEN_TEXT}"
    return redacted_text(IN_BRACES.sub(_hidden_by_key, text))


def redacted_json(value: Value, secrets: Sequence[str] = ()) -> Value:
    """Return a JSON value with all credentials replaced by `***`: in texts, and as values of credential keys.

    Keys stay unchanged. The texts in `secrets` are also replaced everywhere.
    """
    if isinstance(value, str):
        text: str = value
        for secret in secrets:
            text = text.replace(secret, HIDDEN_TEXT)
        return redacted_text(text)  # type: ignore[return-value]  # Value is str here
    if isinstance(value, Mapping):
        return {  # type: ignore[return-value]  # Value is a mapping here
            key: HIDDEN_TEXT if _is_secret(key, item) else redacted_json(item, secrets) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted_json(item, secrets) for item in value]  # type: ignore[return-value]  # a list for JSON
    return value


def json_redactor(config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function that redacts JSON values and hides the credentials of `config` wherever they occur."""
    secrets = sorted({secret for secret in _secrets(config) if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True)
    return lambda value: redacted_json(value, secrets)


class PlainFormatter(logging.Formatter):
    """Logging formatter that applies `visible_text` and `redacted_text` to each record.

    `conf/config.yaml` names this class.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        return visible_text(redacted_text(super().format(record)))


def _escaped_character(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a file name that is not UTF-8, as `surrogateescape` decodes it
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _escaped_name_character(character: str) -> str:
    is_surrogate = 0xD800 <= ord(character) <= 0xDFFF
    return _escaped_character(character) if is_surrogate else ascii(character)[1:-1]


def _is_secret(key: object, value: object) -> bool:
    return isinstance(value, str) and bool(SECRET_KEY.search(str(key))) and not NON_SECRET_VALUE.match(value)


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
    return f"{found[1]}{HIDDEN_TEXT}" if _is_secret(found[2], found[3]) else found[0]
