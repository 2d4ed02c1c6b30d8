"""Both Lightning packages: what mtx makes for one is taken by the Trainer of the other, too.

`pytorch_lightning` and `lightning.pytorch` are the same code under two names, with classes of its own under each. A
Trainer asks whether an object is of its own package's class; so mtx's objects say yes to both. Nothing is imported
for that: a Trainer that asks has been imported. `pl` is the package that mtx's classes are written with.
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

__all__ = ["OfBothPackages", "pl"]

NAMES = ("pytorch_lightning", "lightning.pytorch")


class OfBothPackages:
    """Base of classes that derive from a class of `pl`: `class Mine(OfBothPackages, pl.Callback)`.

    `isinstance` asks an object's type first, and then its `__class__`. That is a class which derives from the type
    and from the other package's twin of its base, once that package is imported; nothing is ever made of it. It has
    the type's name, under which Lightning keeps an object's state in a checkpoint, so both packages read the same
    checkpoints. The type itself stays as it is, so that objects are pickled and copied as any others.
    """

    @property  # type: ignore[misc]  # what `object` has may be written to, which nobody needs
    def __class__(self) -> type:
        """The object's type, in both packages."""
        kind = type(self)
        twins = _twins(kind)
        return _derived((kind, *twins)) if twins else kind

    def __reduce__(self) -> tuple[object, ...]:
        """Tell pickle the type, as `__class__` is no name that it could import."""
        return _bare, (type(self),), self.__getstate__()


def _twins(kind: type) -> tuple[type, ...]:
    """Return the other package's twins of what `kind` derives from, as far as they are imported."""
    found: list[type] = []
    for base in kind.__mro__:
        for name, other in (NAMES, NAMES[::-1]):
            if base.__module__.startswith(f"{name}."):
                module = sys.modules.get(other + base.__module__.removeprefix(name))
                twin = getattr(module, base.__qualname__, None)
                if isinstance(twin, type) and not any(issubclass(known, twin) for known in (kind, *found)):
                    found.append(twin)
    return tuple(found)


@cache
def _derived(bases: tuple[type, ...]) -> type:
    """Return the class of an object's type and its twins, always the same one."""
    kind = bases[0]
    return type(kind.__name__, bases, {"__module__": kind.__module__, "__qualname__": kind.__qualname__})


def _bare(kind: type) -> object:
    return object.__new__(kind)
