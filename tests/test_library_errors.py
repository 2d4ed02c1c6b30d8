"""Messages of mtx give their own reasons; sentences of other libraries go to the log at level debug."""

import ast
import gzip
import json
import logging
import re
import socket
import sqlite3
import ssl
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from xml.parsers import expat

import numpy as np
import pyarrow as pa
import pytest
import yaml
from tokenizers import Tokenizer

import mtx
from mtx import errors
from mtx.errors import ConfigError
from mtx.exhausted_resources import exhausted_message
from mtx.infra.dal.unconvertible_value import unconvertible_value
from mtx.infra.dataset.extra_columns import united_columns
from mtx.library_errors import FAULT, fault_note, first_cause, library_reason

# Functions that quote an error of any class, each with the reason.
QUOTED = {
    "mtx/app/command.py:main": "the branch for an MtxError",
    "mtx/data/ray_engine.py:_connected": "finds the versions in the sentence, and quotes nothing else of it",
    "mtx/infra/dal/sqlite.py:_values": "the ValueError of row_value, whose sentence is of mtx",
    "mtx/infra/dataset/sources/local_files.py:_convert_errors": "compares the sentence, and does not quote it",
    "mtx/sweep/job.py:_run_with_status": "a fault of mtx or of the user's code, whose trace follows in the log",
    "mtx/sweep/run_start_end_log.py:logged": "a line of the log",
}


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception, match=r"^") as found:
        call()
    return found.value


def throw(error: Exception) -> None:
    raise error


def parse_xml() -> None:
    expat.ParserCreate().Parse(b"<a>\n<b></a>", True)


def refused_statement() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:  # Python 3.13 tells of a connection that stays open
        connection.execute("nope")


CASES: dict[str, tuple[Callable[[], object], str]] = {
    "JSON": (lambda: json.loads('{"a": 1,\n "b" 2}'), "the error is at line 2, column 6"),
    "YAML": (lambda: yaml.safe_load("a: [1\nb: 2"), "the error is at line 2, column 2"),
    "XML": (parse_xml, "the error is at line 2, column 6"),
    "regular expression": (lambda: re.compile("a(b"), "the error is at line 1, column 2"),
    "no UTF-8": (lambda: b"ab\xff".decode(), "its byte 3 is not valid UTF-8"),
    "surrogate": (lambda: "a\ud800".encode(), r"'\ud800' cannot be encoded as UTF-8"),
    "missing file": (lambda: Path("/nope/nope").read_bytes(), "No such file or directory"),
    "Arrow's missing file": (lambda: pa.memory_map("/nope/nope"), "No such file or directory"),
    "missing key": (lambda: {}["languages"], "'languages' is missing"),
    "missing module": (lambda: __import__("nope_nope"), "the module nope_nope is missing"),
    "zip": (lambda: zipfile.ZipFile(BytesIO(b"PK")), "its archive is damaged"),
    "gzip": (lambda: gzip.decompress(gzip.compress(b"abc")[:10] + b"xxxxxxxxxxxxx"), "its compressed data is damaged"),
    "truncated gzip": (lambda: gzip.decompress(gzip.compress(b"abc")[:-9]), "it ends too early"),
    "SQLite": (refused_statement, "sqlite3 reports SQLITE_ERROR"),
    "Arrow": (lambda: pa.array(["a"]).cast(pa.int64()), "pyarrow reports ArrowInvalid"),
    "Python": (lambda: float("a"), "Python reports ValueError"),
    "large number": (lambda: float(10**400), "a number is too large"),
    "certificate": (
        lambda: throw(ssl.SSLCertVerificationError(1, "no")),
        "the certificate of the server is not trusted",
    ),
    "encryption": (lambda: throw(ssl.SSLError(5, "EOF")), "the encrypted connection fails"),
    "server": (lambda: throw(socket.gaierror(-2, "no")), "the name of the server is not known"),
    "address": (lambda: throw(socket.herror(1, "no")), "the name of the server is not known"),
    "bucket": (lambda: throw(OSError("Forbidden")), "Python reports OSError"),
    "syntax": (lambda: compile("a b", "/x/own.py", "exec"), "/x/own.py, line 1, column 3: invalid syntax"),
}


@pytest.mark.parametrize(("call", "expected"), CASES.values(), ids=CASES)
def test_a_fact_of_the_error_is_the_reason(call: Callable[[], object], expected: str) -> None:
    assert library_reason(raised(call).with_traceback(None)) == expected  # as of a call in mtx, not in this file


def test_the_sentence_of_a_library_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mtx.library_errors")
    error = raised(lambda: Tokenizer.from_str("{}")).with_traceback(None)
    assert library_reason(error, library="tokenizers") == "tokenizers reports Exception"
    assert str(error) in caplog.text


def test_mtx_and_the_code_of_the_user_keep_their_sentences() -> None:
    def of_the_user() -> None:
        raise ValueError("a rule needs two values.\n More.")

    assert library_reason(raised(of_the_user)) == "ValueError: a rule needs two values"
    assert library_reason(ConfigError("x is 1. Set x=2.")) == "x is 1. Set x=2"
    assert library_reason(raised(lambda: errors.choices(1, []))) == "Python reports AttributeError"  # type: ignore[arg-type]


def test_a_name_that_a_module_lacks_is_told() -> None:
    def in_this_file() -> None:
        from json import Missing  # type: ignore[attr-defined]  # noqa: F401

    assert "'Missing' from 'json'" in library_reason(raised(in_this_file))
    error = ImportError("no", name="json")
    assert library_reason(error) == "the module json cannot be imported"


def test_a_number_of_ssl_is_no_errno() -> None:
    assert exhausted_message(ssl.SSLError(5, "EOF")) is None
    assert exhausted_message(OSError(5, "Input/output error")) is not None


def test_a_truncated_file_is_told_and_another_error_of_a_stream_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"abc" * 1000)[:-9])
    error = raised(lambda: pa.CompressedInputStream(pa.OSFile(str(path)), "gzip").read())
    assert type(error) is OSError
    assert library_reason(error) == "it ends too early or is damaged"


def test_an_error_that_mtx_raises_keeps_its_sentence_and_one_below_it_does_not() -> None:
    from mtx.infra.dal.sqlite_repair import row_value

    assert library_reason(raised(lambda: row_value(3))) == "the manifest must be text, but is of the type int"
    assert str(raised(lambda: row_value("{"))) == "the manifest is not valid JSON: the error is at line 1, column 2"


def test_a_fault_is_of_the_code_of_the_user_or_of_mtx_which_says_where_to_report() -> None:
    def of_the_user() -> None:
        np.zeros(3).reshape(2, 2)

    assert fault_note(raised(of_the_user)).startswith(
        f"This error comes from code that is no part of mtx: {__file__}, "
    )
    of_mtx = raised(lambda: errors.choices(1, []))  # type: ignore[arg-type]  # a fault in the caller, as far as mtx knows
    assert fault_note(of_mtx) == FAULT
    assert "Report it as an issue" in FAULT


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None, "a"], pa.int64(), "such as 'a' (str)"),
        ([None, 1, "a"], None, "such as 'a' (str)"),
        (pa.array(["1", "1.5"]), pa.int64(), "such as '1.5' (str)"),
        (pa.array([b"\xff"]).view(pa.string()), pa.large_string(), "such as bytes that are not UTF-8"),
        (["x" * 100], pa.float64(), f"such as '{'x' * 59}… (str)"),
        ("ja", pa.bool_(), "'ja' (str)"),
        (3, pa.bool_(), "3 (int)"),
    ],
)
def test_the_value_of_a_wrong_type_is_found(values: object, kind: pa.DataType | None, expected: str) -> None:
    assert unconvertible_value(values, kind) == expected


def test_a_column_of_two_types_is_named() -> None:
    schemas = [pa.schema([("n", pa.int64()), ("year", kind)]) for kind in (pa.int64(), pa.large_string())]
    with pytest.raises(errors.SourceError, match=r"the column 'year' has different types .*: int, str\. Set one"):
        united_columns(schemas, "corpus")


def quoted_errors(path: Path) -> Iterator[str]:
    """Yield the functions of a module that quote an error of a class that is not of mtx."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for handler in (node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.name):
            names = {node.attr if isinstance(node, ast.Attribute) else node.id for node in class_names(handler.type)}
            of_mtx = all(hasattr(errors, name) or name in OWN_CLASSES for name in names)
            if not of_mtx and any(quotes(node, str(handler.name)) for node in ast.walk(handler)):
                yield f"{path.relative_to(Path(mtx.__file__).parents[1]).as_posix()}:{function.name}"


def class_names(node: ast.expr | None) -> Iterator[ast.Name | ast.Attribute]:
    if isinstance(node, ast.Tuple):
        for each in node.elts:
            yield from class_names(each)
    elif isinstance(node, ast.Name | ast.Attribute):
        yield node


def quotes(node: ast.AST, name: str) -> bool:
    """Return whether a node is `{error}` in an f-string, `str(error)`, or `error` as the value of a line of the log."""
    if isinstance(node, ast.FormattedValue):
        return isinstance(node.value, ast.Name) and node.value.id == name
    if not isinstance(node, ast.Call):
        return False
    is_log = isinstance(node.func, ast.Attribute) and node.func.attr == "warning"
    is_str = isinstance(node.func, ast.Name) and node.func.id == "str"
    return (is_log or is_str) and any(isinstance(each, ast.Name) and each.id == name for each in node.args)


OWN_CLASSES = {  # not parsed, since each worker of pytest needs these names to collect the tests
    name
    for path in Path(mtx.__file__).parent.rglob("*.py")
    for name in re.findall(r"^class (\w+Error)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_no_message_quotes_an_error_of_another_library() -> None:
    found = {each for path in sorted(Path(mtx.__file__).parent.rglob("*.py")) for each in quoted_errors(path)}
    assert found - set(QUOTED) == set()
    assert set(QUOTED) - found == set()


def test_the_first_cause_is_an_error_of_mtx_or_the_innermost_error() -> None:
    inner, own, outer = ValueError("inner"), ConfigError("own"), RuntimeError("outer")
    own.__cause__, outer.__cause__ = inner, own
    assert first_cause(outer) is own
    own.__cause__ = own
    assert first_cause(own) is own
    outer.__cause__ = inner
    assert first_cause(outer) is inner
