"""docs/training.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/training.md").read_text()


def test_every_test_that_it_names_is_there() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "tests/training").rglob("*.py"))
    named = re.findall(r"`(?:test_\w+::)?(test_\w+)`", GUIDE)
    assert len(named) > 10
    modules = {path.stem for path in ROOT.glob("tests/**/*.py")}
    assert [name for name in named if f"def {name}(" not in text and name not in modules] == []
    files = re.findall(r"`((?:tests/\w+/)?test_\w+\.py)`", GUIDE)
    assert [name for name in files if not (ROOT / ("" if "/" in name else "tests/training") / name).exists()] == []
