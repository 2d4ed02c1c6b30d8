"""Version of a user's code without a version number: a digest of its module and of the user's modules that it imports.

The standard library, installed packages and mtx are left out, since their releases have version numbers. Imports are
found in the source text, also inside functions; no module is imported.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from mtx.errors import ConfigError

PACKAGE = "mtx"
INSTALL_FOLDERS = {"site-packages", "dist-packages"}  # folders of installed packages
DIGEST_DIGITS = 16


def code_digest(target: Any) -> str:
    """Return 16 hex digits of SHA-256 over the source of a module and of the user's modules that it imports.

    The module is that of the class or function `target`.

    Raises:
        ConfigError: the module has no source file, as in a notebook.
    """
    module = sys.modules.get(target.__module__)
    path = getattr(module, "__file__", None)
    if path is None or not Path(path).is_file():
        raise ConfigError(
            f"{target.__qualname__} has no source file, so mtx cannot detect a change of its code. Move it to a module "
            "file, or set version = 1 in the class and raise it whenever the output changes"
        )
    return _module_digest(target.__module__, str(path))


@cache  # the process runs the code that it has imported, even if the file changes later
def _module_digest(name: str, path: str) -> str:
    found: dict[str, Path] = {}
    waiting = [(name, Path(path))]
    while waiting:
        module, file = waiting.pop()
        if module in found:
            continue
        found[module] = file
        waiting += _user_imports(module, file)
    sha256 = hashlib.sha256()
    for module, file in sorted(found.items()):
        label = "__main__" if module == name else module  # the same digest whether the module is run or imported
        sha256.update(f"{label}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return sha256.hexdigest()[:DIGEST_DIGITS]


def _user_imports(module: str, file: Path) -> Iterator[tuple[str, Path]]:
    """Yield the user's modules that a module imports, with their files."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the file was edited after its import
        return
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    for name in names:
        yield from _module_files(name, beside=file.parent)


def _module_files(name: str, *, beside: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a module and of the packages that contain it; nothing if it is not the user's code."""
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names or parts[0] == PACKAGE or not parts[0]:
        return
    places: list[str] | None = [*sys.path, str(beside)]
    for end in range(1, len(parts) + 1):
        spec: ModuleSpec | None = PathFinder.find_spec(".".join(parts[:end]), places)
        if spec is None:
            return
        if spec.origin is not None and spec.has_location:
            file = Path(spec.origin)
            if INSTALL_FOLDERS & set(file.parts):
                return
            yield ".".join(parts[:end]), file
        places = list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else []
