"""Imports point one way: a module imports only what stands on its own layer or above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mtx"

# Top to bottom. A prefix covers what is inside it, unless a longer one does.
LAYERS = [
    ["mtx.errors", "mtx.identity", "mtx.lightning", "mtx.cores", "mtx.shown"],
    ["mtx.infra.dal"],
    ["mtx.infra.dataset"],
    ["mtx.data"],
    ["mtx.callbacks"],
    ["mtx.training"],
    ["mtx.experiment"],
    [
        "mtx.app",
        "mtx.multirun",
        "mtx.grid",
        "mtx.testing",
        "mtx.overrides",
        "mtx.resolvers",
        "mtx.completion",
        "mtx.__main__",
        "mtx",
    ],
]
RANKS = {prefix: rank for rank, prefixes in enumerate(LAYERS) for prefix in prefixes}
PURE = "mtx.infra.dataset.plan"  # arrays in, arrays out: no torch, no storage


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def rank(module: str) -> int:
    """The layer of a module: that of the longest prefix that covers it."""
    if module == "mtx":
        return RANKS["mtx"]
    parts = module.split(".")
    for end in range(len(parts), 1, -1):
        if (prefix := ".".join(parts[:end])) in RANKS:
            return RANKS[prefix]
    raise AssertionError(f"{module} stands on no layer: place it in LAYERS")


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """All modules that a source imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"mtx", "mtx.infra"}))
def test_a_module_imports_nothing_from_a_layer_below_its_own(module: str) -> None:
    path = MODULES[module]
    below = [
        name
        for name in imported(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
        if name.split(".")[0] == "mtx" and rank(name) > rank(module)
    ]
    assert below == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name not in ("mtx", "mtx.infra")))
def test_only_experiment_and_application_import_hydra(module: str) -> None:
    if rank(module) >= RANKS["mtx.experiment"]:
        return
    roots = {name.split(".")[0] for name in imported(MODULES[module].read_text(encoding="utf-8"), module)}
    assert not roots & {"hydra", "omegaconf"}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith(PURE)))
def test_the_plan_knows_neither_torch_nor_storage(module: str) -> None:
    names = set(imported(MODULES[module].read_text(encoding="utf-8"), module))
    assert not {name.split(".")[0] for name in names} & {"torch", "pytorch_lightning", "pyarrow", "datasets"}
    assert not {name for name in names if name.startswith("mtx.infra.dal")}


def test_imports_are_found_in_every_form() -> None:
    source = "import a.b\nfrom c import d\ndef f():\n    from . import store\n    from ..errors import MtxError\n"
    assert list(imported(source, "mtx.data.repo")) == ["a.b", "c", "mtx.data.store", "mtx.errors"]
    assert list(imported("from . import repo", "mtx.data", is_package=True)) == ["mtx.data.repo"]


def test_every_module_stands_on_a_layer() -> None:
    assert len(MODULES) > 20
    assert all(rank(name) >= 0 for name in MODULES if name not in ("mtx", "mtx.infra"))
