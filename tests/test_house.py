"""The shape of the house: imports point one way, names are told apart, and nothing grows too long to read."""

import ast
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mtx").rglob("*.py"))
MAX_LINES = 320
MAX_FUNCTION_LINES = 60

# What may be longer, with the reason.
LONG_MODULES = {
    "mtx/infra/dataset/download.py": "an import path that users know: the contract of sources and the Hub's downloader",
    "mtx/training/translation_data.py": "one class, of whose lines 50 explain its arguments",
}
LONG_FUNCTIONS = {
    "mtx/evaluation/beam_search.py::n_best_search": "one loop, whose parts share all of its state",
    "mtx/training/translation_data.py::__init__": "one line for each of its arguments, and for each attribute",
    "mtx/infra/dataset/hub/range_retry.py::_file_system_class": "a class inside, whose base is imported late",
}
# Words that say of a module only that it is code.
EMPTY_WORDS = {
    "base",
    "call",
    "common",
    "end",
    "helpers",
    "kernels",
    "misc",
    "pairs",
    "profile",
    "rows",
    "utils",
    "write",
}


def functions_of(path: Path) -> list[tuple[str, int]]:
    """Return the name and the number of lines of each function in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (f"{path.relative_to(ROOT)}::{node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    ]


def test_imports_keep_the_contracts_of_pyproject() -> None:
    # In a process of its own, since the linter disables all loggers of the process that it runs in.
    lint = [sys.executable, "-c", "from importlinter import cli; raise SystemExit(cli.lint_imports(no_cache=True))"]
    linted = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert {contract["type"] for contract in contracts} == {"layers", "acyclic_siblings", "protected", "forbidden"}


def test_every_package_stands_in_the_order() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [name.strip() for line in contracts[0]["layers"] for name in line.split("|")]
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("mtx", "mtx.infra"):
            assert any(name == layer or name.startswith(f"{layer}.") for layer in layers), f"{name} has no layer"


def test_no_two_modules_share_a_stem() -> None:
    """A task in `experiment/` may be called as the stage that it runs."""
    places = defaultdict(list)
    for path in MODULES:
        if path.stem not in ("__init__", "__main__"):
            places[path.stem].append(path.relative_to(ROOT).as_posix())
    shared = {
        stem: names
        for stem, names in places.items()
        if len([name for name in names if not name.startswith("mtx/experiment/")]) > 1
        or len([name for name in names if name.startswith("mtx/experiment/")]) > 1
    }
    assert shared == {}


def test_modules_are_called_by_what_they_hold() -> None:
    assert [path for path in MODULES if path.stem in EMPTY_WORDS] == []


def test_no_module_is_too_long() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    too_long = {name for name, length in lengths.items() if length > MAX_LINES}
    assert too_long == set(LONG_MODULES), "split what is new, and strike what is short by now"


def test_no_function_is_too_long() -> None:
    lengths = dict(found for path in MODULES for found in functions_of(path))
    too_long = {name for name, length in lengths.items() if length > MAX_FUNCTION_LINES}
    assert too_long == set(LONG_FUNCTIONS), "split what is new, and strike what is short by now"
