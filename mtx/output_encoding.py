"""Output to terminals and pipes that lack some characters, such as a Latin-1 terminal."""

import codecs
import sys

ERRORS = "mtx.closest"  # name of the error handler
CLOSEST = {
    **{"…": "...", "–": "-", "—": "-", "−": "-", "‑": "-", "×": "x", "·": "*", "•": "*", "±": "+/-", "≈": "~"},
    **{"→": "->", "←": "<-", "↑": "^", "↓": "v", "≤": "<=", "≥": ">=", "≠": "!=", "√": "sqrt", "²": "^2"},
    **{"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "█": "#", "━": "-", "─": "-", "│": "|", "✓": "x"},
    **{"\u2068": "", "\u2069": ""},  # isolates of the text direction
}


def replace_missing_characters() -> None:
    """Let standard output and standard error replace the characters that their encodings lack.

    A character is replaced by a similar one, or by its escape. Without this, printing such a
    character raises UnicodeEncodeError, and finished work counts as failed.
    """
    codecs.register_error(ERRORS, _closest)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a stream that Python or a program replaced may lack it
        if reconfigure is not None and getattr(stream, "errors", ERRORS) != ERRORS:
            reconfigure(errors=ERRORS)


def _closest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(CLOSEST.get(char) or _escape(char) for char in found), error.end


def _escape(char: str) -> str:
    return "" if char in CLOSEST else char.encode("ascii", "backslashreplace").decode()
