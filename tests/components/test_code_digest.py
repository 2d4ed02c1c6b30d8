"""The digest of a user's code: any edit of the module, or of the user's modules that it imports, is another one."""

import importlib
import sys
from pathlib import Path

import pytest

from mtx.components.code_digest import _module_digest, code_digest

RULE = """
import mtx
from word_lists import loud_words as words
FACTOR = 2
shout = lambda text: text.upper()
class Limits:
    most = 3
def outer():
    limit = 4
    def inner():
        from lazy_part import value
        return limit * value
    return inner
@mtx.rule
def quiet(pairs, *, most: int = 1):
    return [words(text) < most for text in pairs["src"].to_pylist()]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "digested_rule.py").write_text(RULE)
    (tmp_path / "word_lists.py").write_text("import helpers_of_lists\ndef loud_words(text): return 1\n")
    (tmp_path / "helpers_of_lists.py").write_text("UNUSED = 1\n")
    (tmp_path / "lazy_part.py").write_text("value = 1\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def digest_now() -> str:
    _module_digest.cache_clear()  # a new process
    importlib.invalidate_caches()
    for name in ("digested_rule", "word_lists", "helpers_of_lists"):
        sys.modules.pop(name, None)
    return code_digest(importlib.import_module("digested_rule").quiet)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("digested_rule.py", "most = 3", "most = 5"),  # a class attribute
        ("digested_rule.py", "limit = 4", "limit = 5"),  # what a closure holds
        ("digested_rule.py", "text.upper()", "text.lower()"),  # a lambda
        ("digested_rule.py", "FACTOR = 2", "FACTOR = 3"),
        ("word_lists.py", "return 1", "return 2"),  # imported, under another name
        ("helpers_of_lists.py", "UNUSED = 1", "UNUSED = 2"),  # imported by what is imported
        ("lazy_part.py", "value = 1", "value = 2"),  # imported within a function
    ],
)
def test_an_edit_is_another_digest_and_undone_the_same(folder: Path, file: str, old: str, new: str) -> None:
    before = digest_now()
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    assert digest_now() != before
    (folder / file).write_text(text)
    (folder / "unrelated.py").write_text("x = 2\n")
    assert digest_now() == before
