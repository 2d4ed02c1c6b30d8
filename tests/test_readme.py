"""The README is short, and names what is there; `test_docs.py` runs its commands and checks its links."""

from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_it_fits_on_one_page() -> None:
    assert len(README.splitlines()) <= 90


def test_the_scripts_it_names_first_are_there_and_executable() -> None:
    root = Path(__file__).parents[1]
    for name in ("scripts/run", "scripts/test"):
        assert name in README
        assert (root / name).stat().st_mode & 0o111
