"""Short reasons, in words of mtx, for errors that other libraries raise.

A message of mtx never quotes the sentence of another library. It says what is wrong in words of mtx, and
`library_reason` adds a short value, such as a position in a file. The sentence itself goes to the log at level debug.
"""

import dis
import logging
import os
import re
import sysconfig
from functools import cache
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

from mtx.errors import MtxError

log = logging.getLogger(__name__)

RAISE = dis.opmap["RAISE_VARARGS"]
OWN_FOLDER = f"{Path(__file__).parent}{os.sep}"
_PACKAGES = f"-packages{os.sep}"  # of site-packages and dist-packages
FAULT = (
    "mtx has no message for this error, which is a fault of mtx. Report it as an issue of mtx's repository, with this "
    "trace, the command, and what mtx --version prints"
)
LONGEST_SENTENCE = 300  # characters of a sentence of the user's own code
DECOMPRESSORS = frozenset({"zlib", "bz2", "gzip", "_lzma", "lzma", "zstandard", "zstandard.backend_c"})
# By name, since the modules may not be loaded. Their numbers are no errno.
CONNECTION_ERRORS: dict[tuple[str, str], str] = {
    ("ssl", "SSLCertVerificationError"): "the certificate of the server is not trusted",
    ("ssl", "SSLError"): "the encrypted connection fails",
    ("socket", "gaierror"): "the name of the server is not known",
    ("socket", "herror"): "the name of the server is not known",
}
NAMES = {"_csv": "csv", "sre_constants": "re", "re": "re", "pyo3_runtime": "tokenizers", "_pickle": "pickle"}
# What the codes of SQLite mean: https://sqlite.org/rescode.html
SQLITE = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it is read-only",
    "SQLITE_IOERR": "the disk does not read or write it",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_BUSY": "another process uses it",
    "SQLITE_LOCKED": "another process uses it",
    "SQLITE_NOTADB": "it is no database of SQLite",
    "SQLITE_CORRUPT": "its pages are damaged",
}


def library_reason(error: BaseException, *, library: str | None = None) -> str:
    """Return why an operation failed, for a message of mtx, and log the sentence of the error at level debug.

    The reason is a fact that the error carries: the text of an errno, or a position in a file. Without a fact, it is
    the name of the library and of the error's class. What mtx or the user's own code has raised keeps its sentence.

    Args:
        error: the error that the message is about.
        library: the library that raised it; None: the one that defines its class.

    Returns:
        A part of a sentence, without a full stop.
    """
    if isinstance(error, MtxError):
        return str(error).rstrip(".")
    log.debug("a library reported: %s: %s", type(error).__name__, error)
    if (number := system_number(error)) is not None:
        return os.strerror(number)
    is_of_user, is_raised = _origin(error)
    if is_raised and not is_of_user:
        return _sentence(error)
    is_sentence = is_raised or (is_of_user and type(error) is ImportError)  # of `from torch import Missing`
    if not is_sentence and (fact := _fact(error)) is not None:
        return fact
    if is_of_user:
        return f"{type(error).__name__}: {_sentence(error)}".removesuffix(": ")
    module = type(error).__module__
    name = library or NAMES.get(module) or module.partition(".")[0]
    code = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if (told := SQLITE.get("_".join(code.split("_")[:2]))) is not None:  # without a detail, as in SQLITE_IOERR_READ
        return told
    return f"{'Python' if name == 'builtins' else name} reports {code}"


def lightning_reason(error: Exception) -> str:
    """Return the method of a model that Lightning refuses, such as a missing `training_step`, or the class of error."""
    method = re.search(r"`(\w+)(?:\(\))?`", str(error))
    return library_reason(error) if method is None else f"it refuses the {method[1]} of the model"


def fault_note(error: BaseException) -> str:
    """Return whose fault an error is that no message explains: of code of the user, or of mtx, and where to report it.

    The last frame counts that belongs to one of both, since a library raises most errors for its caller.
    """
    places = [(frame.f_code.co_filename, number) for frame, number in walk_tb(error.__traceback__)]
    for file, number in reversed(places):
        if file.startswith(OWN_FOLDER):
            return FAULT
        if _is_user_file(file):
            return f"This error comes from code that is no part of mtx: {file}, line {number}"
    return FAULT


def _fact(error: BaseException) -> str | None:
    """Return the fact that an error carries in a field; None if it has none."""
    module = type(error).__module__
    if (told := _system_fact(error)) is not None:
        return told
    if isinstance(error, UnicodeDecodeError):
        return f"its byte {error.start + 1} is not valid {error.encoding.upper()}"
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object[error.start]!r} cannot be encoded as {error.encoding.upper()}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the module {error.name} is missing"
    if isinstance(error, ImportError) and error.name:
        name = getattr(error, "name_from", None)  # from Python 3.12 on
        return f"the module {error.name} has no {name}" if name else f"the module {error.name} cannot be imported"
    if isinstance(error, KeyError) and error.args and " " not in str(error.args[0]):  # with one, it is a sentence
        return f"{error.args[0]!r} is missing"
    if isinstance(error, EOFError):
        return "it ends too early"
    if type(error) is OSError and _is_of_local_file(error):  # since errors of the disk have an errno
        return "it ends too early or is damaged"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OverflowError):
        return "a number is too large"
    if isinstance(error, NotImplementedError):
        return "it uses a feature that is not supported"
    if isinstance(error, MemoryError):
        return "there is too little memory"
    if module in DECOMPRESSORS:
        return "its compressed data is damaged"
    if module == "zipfile":
        return "its archive is damaged"
    return _position(error)


def system_number(error: BaseException) -> int | None:
    """Return the errno of an error; None for other errors, also of SSL and of names of servers, which number anew."""
    if isinstance(error, OSError) and isinstance(error.errno, int) and _connection_fact(error) is None:
        return error.errno
    return None


def _connection_fact(error: BaseException) -> str | None:
    names = [(each.__module__, each.__name__) for each in type(error).__mro__]
    return next((CONNECTION_ERRORS[name] for name in names if name in CONNECTION_ERRORS), None)


def _system_fact(error: BaseException) -> str | None:
    """Return what the system or a connection said about an error, or about the one that it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        if (told := _connection_fact(cause)) is not None:
            return told
        if (number := system_number(cause)) is not None:
            return os.strerror(number)
        cause = cause.__cause__
    return None


def _is_of_local_file(error: BaseException) -> bool:
    """Return whether a decompressor has raised an error, or pyarrow, called by mtx, for a file on the disk."""
    frame = innermost_frame(error)
    file = "" if frame is None else frame.tb_frame.f_code.co_filename
    return Path(file).stem in DECOMPRESSORS or file.startswith(OWN_FOLDER) or "pyarrow" in Path(file).parts


def _position(error: BaseException) -> str | None:
    """Return where a parser has found an error: of JSON, YAML, XML, a regular expression, or pydantic's fields."""
    if (mark := getattr(error, "problem_mark", None)) is not None:  # of YAML
        return f"the error is at line {mark.line + 1}, column {mark.column + 1}"
    if isinstance(error, SyntaxError):  # it counts columns from 1, and expat from 0
        return f"{error.filename}, line {error.lineno}, column {error.offset}: {error.msg}"
    line, column = getattr(error, "lineno", None), getattr(error, "colno", getattr(error, "offset", None))
    if isinstance(line, int) and isinstance(column, int):
        return f"the error is at line {line}, column {column + (not hasattr(error, 'colno'))}"
    if isinstance(position := getattr(error, "pos", None), int):
        return f"the error is at character {position + 1}"
    fields = getattr(error, "errors", None)
    if type(error).__module__.startswith("pydantic") and callable(fields):
        return ", ".join(".".join(map(str, each["loc"])) for each in fields()[:3]) + " has another form"
    return None


def first_cause(error: BaseException) -> BaseException:
    """Return the error from which all others of the chain were raised, or the last one of mtx, which explains it."""
    while error.__cause__ is not None and not isinstance(error, MtxError):
        error = error.__cause__
    return error


def innermost_frame(error: BaseException) -> TracebackType | None:
    """Return the innermost frame of Python code in which an error was raised."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame


def _origin(error: BaseException) -> tuple[bool, bool]:
    """Return whether an error comes from the user's code, and whether a `raise` there or in mtx has raised it.

    The user's code belongs neither to mtx nor to an installed library. What a library of compiled code raises has the
    frame of its caller as the innermost one, but no `raise` there.
    """
    frame = innermost_frame(error)
    if frame is None:
        return False, False
    code = frame.tb_frame.f_code
    is_of_user = _is_user_file(code.co_filename)
    is_of_mtx = code.co_filename.startswith(OWN_FOLDER)
    return is_of_user, (is_of_user or is_of_mtx) and code.co_code[frame.tb_lasti] == RAISE


def is_raised_by_user(error: BaseException) -> bool:
    """Return whether a `raise` in the user's own code has raised an error, so that its sentence is the user's."""
    return all(_origin(error))


def _is_user_file(file: str) -> bool:
    is_own = file.startswith(OWN_FOLDER)
    return Path(file).is_absolute() and not is_own and not file.startswith(_library_folders()) and _PACKAGES not in file


@cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _sentence(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().partition("\n")[0].strip()[:LONGEST_SENTENCE].rstrip(".")
