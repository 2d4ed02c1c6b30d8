"""Base class that lets Trainers of `pytorch_lightning` and of `lightning.pytorch` accept the same mtx objects.

Both packages contain the same code, but each package defines its own classes. A Trainer checks with `isinstance` for
the classes of its own package. Therefore mtx objects pass the check for both packages.
The second package is never imported for this: it is looked up in `sys.modules`, because a Trainer that checks has been
imported.
`pl` is the package from which the classes of mtx derive.
"""

import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytorch_lightning as pl
else:
    try:
        import pytorch_lightning as pl
    except ModuleNotFoundError:
        import lightning.pytorch as pl

__all__ = ["LightningCompat", "pl", "twin_bases"]

PACKAGE_NAMES = ("pytorch_lightning", "lightning.pytorch")


class LightningCompat:
    """Mixin for a subclass of a `pl` class, whose objects pass `isinstance` checks of both Lightning packages.

    Use it as `class Mine(LightningCompat, pl.Callback)`. `isinstance` checks `type(object)` first, and then
    `object.__class__`.
    `__class__` returns a class that derives from the object's type and from its base class in the other Lightning
    package, if imported. No object of that class is created.
    The returned class has the name of the object's type. Lightning stores the state of an object in a checkpoint under
    that name, so both packages read the same checkpoints.
    `type(object)` does not change, so objects are pickled and copied as usual.
    """

    @property  # type: ignore[misc]  # `object.__class__` is writable; this property is read-only
    def __class__(self) -> type:
        """The object's type, extended by the matching base classes of the other Lightning package."""
        kind = type(self)
        twins = _twin_classes(kind)
        return _twin_class((kind, *twins)) if twins else kind

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the object as a `type(self)`, because pickle cannot import the class that `__class__` returns."""
        return _bare_object, (type(self),), self.__getstate__()


def twin_bases(kind: type) -> tuple[type, ...]:
    """Return `kind`, and the class of the same name in the other Lightning package if that package is imported.

    LightningCLI checks a data module's class by `issubclass`, which `__class__` of an object does not change.
    """
    return kind, *_twin_classes(kind)


def _twin_classes(kind: type) -> tuple[type, ...]:
    """Return the classes of the other Lightning package, if imported, that match the base classes of `kind`."""
    found: list[type] = []
    for base in kind.__mro__:
        for name, other in (PACKAGE_NAMES, PACKAGE_NAMES[::-1]):
            if base.__module__.startswith(f"{name}."):
                module = sys.modules.get(other + base.__module__.removeprefix(name))
                twin = getattr(module, base.__qualname__, None)
                if isinstance(twin, type) and not any(issubclass(known, twin) for known in (kind, *found)):
                    found.append(twin)
    return tuple(found)


@cache
def _twin_class(bases: tuple[type, ...]) -> type:
    """Return the class that derives from all `bases`; equal `bases` always give the same class."""
    kind = bases[0]
    return type(kind.__name__, bases, {"__module__": kind.__module__, "__qualname__": kind.__qualname__})


def _bare_object(kind: type) -> object:
    return object.__new__(kind)
