"""docs/security.md and docs/text.md name tests, settings and reasons that exist."""

import re
from pathlib import Path
from typing import get_args

import pytest

from mtx.infra.dataset.pair_stream import Reason

ROOT = Path(__file__).parents[2]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize(("name", "at_least"), [("security", 40), ("text", 8)])
def test_every_test_that_a_guide_names_is_there(name: str, at_least: int) -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / f"docs/{name}.md").read_text())
    assert len(set(named)) >= at_least
    assert [test for test in named if f"def {test}(" not in TESTS] == []


def test_every_threat_has_a_test() -> None:
    text = (ROOT / "docs/security.md").read_text().partition("## Fuzzing")[0]
    table = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(table) > 14
    assert [line for line in table if not re.search(r"\| `test_\w+`[^|]*\|$", line)] == []


def test_every_reason_for_leaving_out_a_row_is_explained() -> None:
    guide = (ROOT / "docs/text.md").read_text()
    assert [reason for reason in get_args(Reason) if f"`{reason}`" not in guide] == []


def test_the_figures_of_the_fuzzer_are_there() -> None:
    assert re.search(r"`scripts/fuzz --inputs \d+`.* tried [\d,]{6,} inputs", (ROOT / "docs/security.md").read_text())
