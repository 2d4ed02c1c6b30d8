"""docs/glossary.md explains each key of the records, and each heading of pages and of tables in the terminal."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import mtx.records
from mtx.records.record_file import FileRecord, Record
from mtx.records.report_metrics import KEY_METRICS

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(r"^- ((?:\*\*.+?\*\*, )*\*\*.+?\*\*): (.+)$")
MAX_SENTENCE_WORDS = 25
JINJA_BLOCK = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)
JINJA_VALUE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
HEADING = re.compile(r"<(h2|h3|th|dt)\b[^>]*>(.*?)</\1>", re.DOTALL)
NO_TERMS = {"and", "not reported"}  # words between the values in a heading


def entries() -> list[tuple[list[str], str]]:
    """Return the names and the text of each entry, in the order of the file."""
    lines = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    found = [ENTRY.match(line) for line in lines if line.startswith("- ")]
    assert all(found), "an entry is a line - **NAME**, **NAME**: TEXT"
    return [(re.findall(r"\*\*(.+?)\*\*", entry[1]), entry[2]) for entry in found if entry]


def terms() -> set[str]:
    """Return all names in the glossary, without backticks and in lower case."""
    return {name.strip("`").casefold() for names, _ in entries() for name in names}


def record_keys() -> Iterator[tuple[str, str]]:
    """Yield each key of each record with the name of the record's class."""
    for module in pkgutil.iter_modules(mtx.records.__path__):
        for value in vars(importlib.import_module(f"mtx.records.{module.name}")).values():
            if not isinstance(value, type) or not issubclass(value, Record):
                continue
            yield from ((value.__name__, key) for key in value.model_fields)
            if issubclass(value, FileRecord) and value is not FileRecord:
                yield value.__name__, value.VERSION_KEY


def page_headings() -> set[str]:
    """Return the constant parts of all headings in the page's template."""
    template = (ROOT / "mtx" / "page" / "page.html.j2").read_text(encoding="utf-8")
    template = template.replace(" > ", " ")  # in comparisons inside of tags
    found: set[str] = set()
    for _, heading in HEADING.findall(JINJA_BLOCK.sub("\0", template)):
        for value in JINJA_VALUE.findall(heading):
            found.update(re.findall(r'"([A-Za-z][A-Za-z ,]{2,})"', value))
        constant = re.sub(r"<[^>]*>", "", JINJA_VALUE.sub("\0", heading))
        found.update(part.strip(" ,:.[") for part in constant.split("\0"))
    return {part for part in found if len(part) > 1} - NO_TERMS


def table_headings() -> set[str]:
    """Return the constant headings of columns and of rows in all tables that mtx prints in the terminal."""
    found: set[str] = set()
    for path in (ROOT / "mtx").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            if node.func.attr in ("add_column", "add_row") and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value).strip())
    return found - {""}


def test_entries_are_in_alphabetical_order_and_each_name_occurs_once() -> None:
    names = [names[0].replace("`", "").casefold() for names, _ in entries()]
    assert names == sorted(names)
    everything = [name for names, _ in entries() for name in names]
    assert len(everything) == len(set(everything))


def test_each_entry_is_two_sentences_of_at_most_25_words() -> None:
    wrong = []
    for names, text in entries():
        sentences = re.split(r"(?<=\.) (?=[A-Z`]|mtx)", text)
        too_long = any(len(sentence.split()) > MAX_SENTENCE_WORDS for sentence in sentences)
        if len(sentences) != 2 or not text.endswith(".") or too_long:
            wrong.append(names[0])
    assert wrong == []


def test_each_key_of_a_record_has_an_entry() -> None:
    keys = set(record_keys())
    assert ("Report", "padding_ratio") in keys
    assert ("Report", "report_version") in keys
    assert sorted((record, key) for record, key in keys if key.casefold() not in terms()) == []


def test_each_heading_of_the_pages_has_an_entry() -> None:
    headings = page_headings() | {heading for heading, _ in KEY_METRICS.values()}
    assert {
        "How do the arms rank?",
        "Tokenizer statistics",
        "tokens per word",
        "largest batch, padded tokens of one side",
    } <= headings
    assert sorted(heading for heading in headings if heading.casefold() not in terms()) == []


def test_each_heading_of_a_table_in_the_terminal_has_an_entry() -> None:
    headings = table_headings()
    assert {"planning time", "stored item"} <= headings
    assert sorted(heading for heading in headings if heading.casefold() not in terms()) == []
