"""Delay the imports of transformers and scipy.signal, which torchmetrics imports, until something of them is used.

Lightning imports torchmetrics, and torchmetrics imports transformers and scipy.signal if they are installed.
That costs about six seconds and half a second in every process that imports Lightning.
While torchmetrics is imported, `from transformers import NAME` returns a stand-in class of this module.
A stand-in class imports the real class when it is first called or asked for an attribute. The metrics of torchmetrics
therefore work as usual.
Other modules that import transformers, before or after torchmetrics, get the real package.
Of scipy.signal, torchmetrics only adds the name `hamming` of older versions. A later import of scipy.signal adds it.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from typing_extensions import override

TRANSFORMERS = "transformers"
TORCHMETRICS = "torchmetrics"
SIGNAL = "scipy.signal"


class _DeferredClass(type):
    """Metaclass of stand-in classes: a call or an attribute access imports the real class from transformers."""

    def _real(cls) -> Any:
        return getattr(importlib.import_module(TRANSFORMERS), cls.__name__)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(cls._real(), name)

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return cls._real()(*args, **options)

    def __instancecheck__(cls, instance: Any) -> bool:
        return TRANSFORMERS in sys.modules and isinstance(instance, cls._real())


class _StandInModule(ModuleType):
    """Module that replaces transformers in `sys.modules` and returns a stand-in class for each name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _DeferredClass(name, (), {})


@contextmanager
def defer_transformers() -> Iterator[None]:
    """Replace transformers by a stand-in module inside the `with` block, unless transformers is already imported."""
    if TRANSFORMERS in sys.modules:
        yield
        return
    stand_in = _StandInModule(TRANSFORMERS)
    sys.modules[TRANSFORMERS] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(TRANSFORMERS) is stand_in:
            del sys.modules[TRANSFORMERS]


@contextmanager
def defer_scipy_signal() -> Iterator[None]:
    """Replace scipy.signal by an empty module inside the `with` block, unless it is already imported or missing."""
    try:
        scipy: Any = importlib.import_module("scipy")
    except ImportError:
        scipy = None
    if scipy is None or SIGNAL in sys.modules:
        yield
        return
    stand_in = ModuleType(SIGNAL)
    stand_in.hamming = None  # type: ignore[attr-defined]  # so that torchmetrics does not add it
    sys.modules[SIGNAL] = scipy.signal = stand_in
    try:
        yield
    finally:
        del sys.modules[SIGNAL], scipy.signal


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook of one module, which runs the module's code by `run`."""

    name: str

    def __init__(self) -> None:
        self._spec: importlib.machinery.ModuleSpec | None = None

    @abstractmethod
    def run(self, loader: importlib.abc.Loader, module: ModuleType) -> None:
        """Run the code of the module by its own loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the module with this object as its loader; None for any other module."""
        if fullname != self.name:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None or found.loader is None:
            return None
        self._spec = found
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=found.origin, is_package=True)
        spec.submodule_search_locations = found.submodule_search_locations
        spec.has_location = True
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Return None, so that Python creates the module in the default way."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Restore the original spec and loader of the module, and run its code."""
        assert self._spec is not None
        assert self._spec.loader is not None
        module.__spec__, module.__loader__ = self._spec, self._spec.loader
        self.run(self._spec.loader, module)


class TorchmetricsFinder(_Finder):
    """Import hook that imports torchmetrics while transformers and scipy.signal are deferred."""

    name = TORCHMETRICS

    @override
    def run(self, loader: importlib.abc.Loader, module: ModuleType) -> None:
        with defer_transformers(), defer_scipy_signal():
            loader.exec_module(module)
        if SIGNAL not in sys.modules:
            sys.meta_path.insert(0, SignalFinder())


class SignalFinder(_Finder):
    """Import hook that adds the name `hamming` to scipy.signal, as torchmetrics does for packages that need it."""

    name = SIGNAL

    @override
    def run(self, loader: importlib.abc.Loader, module: Any) -> None:
        loader.exec_module(module)
        if not hasattr(module, "hamming"):
            module.hamming = module.windows.hamming


def install_finder() -> None:
    """Install the import hook, so that a later import of torchmetrics imports neither of the two packages."""
    if TORCHMETRICS not in sys.modules and not any(isinstance(one, TorchmetricsFinder) for one in sys.meta_path):
        sys.meta_path.insert(0, TorchmetricsFinder())
