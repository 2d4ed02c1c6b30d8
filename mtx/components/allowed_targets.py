"""Rules for which classes and functions a config may name as `_target_`.

The rules judge the object that a name resolves to, never the name: `torch.nn.utils.rnn.torch.os.system` starts like a
layer and is the shell. So the object is imported first, and it must be of the kind that its place in the config needs.
docs/security.md describes the threats.
"""

import importlib
import os
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import Any

from mtx.components.groups import group_of
from mtx.errors import ConfigError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.library_errors import library_reason

TARGET_KEY = "_target_"
ALLOW_VARIABLE = "MTX_ALLOW_TARGETS"  # an environment variable, so that no config can widen what configs may do
PACKAGE = "mtx"
MARK_ADVICE = (
    "Mark a function of your own with @mtx.rule, @mtx.scorer or @mtx.normalise_step to use it as a rule, a scorer or a "
    "step"
)

# Classes that may be nested in a component, besides classes of mtx: their constructors store options and do no work.
NESTED_CLASSES = (
    "mtx.infra.dal.protocols.ObjectLayer",
    "mtx.infra.dal.protocols.FileLayer",
    "mtx.infra.dataset.download.Downloader",
    "mtx.data.normalise.Normaliser",
    "mtx.data.normalise.NormaliseStep",
    "mtx.data.filter.filter_protocol.PairFilter",
    "mtx.data.score.text_encoder.TextEncoder",
    "mtx.data.tokenize.tokenization.Tokenization",
    "mtx.batches.plan.planner.Planner",
    "torch.nn.Module",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "pytorch_lightning.Callback",
    "pytorch_lightning.accelerators.Accelerator",
    "pytorch_lightning.loggers.Logger",
    "pytorch_lightning.plugins.CheckpointIO",
    "pytorch_lightning.plugins.LayerSync",
    "pytorch_lightning.plugins.Precision",
    "lightning_fabric.plugins.ClusterEnvironment",
    "pytorch_lightning.profilers.Profiler",
    "pytorch_lightning.strategies.Strategy",
    "datetime.timedelta",
)


def is_component(value: Any) -> bool:
    """Return whether a config value describes an object to build: a mapping with the key `_target_`."""
    return isinstance(value, Mapping) and TARGET_KEY in value


def allowed_target(path: Any, key: str) -> Callable[..., Any]:
    """Import the class or function that the dotted `path` names, and check that it may be used at `key` of the config.

    The target of a group must be of the group's kind. A nested target must be a class of mtx, or a subclass of a class
    in `NESTED_CLASSES`. Other classes, and functions, are allowed if the environment variable MTX_ALLOW_TARGETS
    contains their module. Importing a target runs its module.

    Raises:
        ConfigError: the target cannot be imported, or is not allowed at `key`.
    """
    target = _imported_target(path, key)
    if (group := group_of(key)) is not None:
        is_one = (group.base and _is_class_of(target, group.base)) or (
            group.functions and (_is_defined_in(target, group.functions) or _is_allowed(target))
        )
        if not is_one:
            how = _allow_advice(target) if group.functions else ""
            raise ConfigError(f"{key}.{TARGET_KEY} must name {group.noun}, but {path} is not one{how}")
    elif not _is_allowed_inside(target):
        kinds = ", ".join(name.rpartition(".")[2] for name in NESTED_CLASSES)
        what = "a class of another kind" if isinstance(target, type) else "not a class"
        mark = "" if isinstance(target, type) else f". {MARK_ADVICE}"
        raise ConfigError(
            f"{key}.{TARGET_KEY} names {path!r}, which is {what}. A nested component must be a class of mtx or of one "
            f"of these kinds: {kinds}{mark}{_allow_advice(target)}"
        )
    return target


def _imported_target(path: Any, key: str) -> Callable[..., Any]:
    try:
        target = _named(path)
    except Exception as error:  # importing a user's module may raise any error
        raise_if_exhausted(error)
        missing = error.name if isinstance(error, AttributeError) else None
        reason = f"its module has no {missing!r}" if missing else library_reason(error)
        raise ConfigError(f"{key}.{TARGET_KEY} names {path!r}, which cannot be imported: {reason}") from error
    if not callable(target):
        raise ConfigError(f"{key}.{TARGET_KEY} names {path!r}, which is a {type(target).__name__} and cannot be called")
    return typing.cast(Callable[..., Any], target)


def _named(path: str) -> Any:
    """Return the object that a dotted path names.

    `mtx.training` is imported first: it imports Lightning without transformers, whose import it defers.
    """
    importlib.import_module("mtx.training")
    try:
        return pkgutil.resolve_name(path)
    except AttributeError:  # also if the module could not be imported, whose error is lost
        try:
            importlib.import_module(path.rpartition(".")[0])
        except ImportError as error:
            raise_if_exhausted(error)
        raise


def _is_allowed_inside(target: Callable[..., Any]) -> bool:
    if isinstance(target, type) and (
        _is_defined_in(target, PACKAGE) or any(_is_class_of(target, b) for b in NESTED_CLASSES)
    ):
        return True
    return _is_allowed(target)


def _is_class_of(target: Callable[..., Any], base: str) -> bool:
    return isinstance(target, type) and issubclass(target, typing.cast(type, _named(base)))


def _is_allowed(target: Callable[..., Any]) -> bool:
    return any(
        _is_defined_in(target, name.strip()) for name in os.environ.get(ALLOW_VARIABLE, "").split(",") if name.strip()
    )


def _is_defined_in(target: Callable[..., Any], module: str) -> bool:
    """Return whether a class or function is defined in `module`, or in a module inside it.

    The path by which it was imported does not matter.
    """
    return f"{_home_module(target)}.".startswith(f"{module}.")


def _home_module(target: Callable[..., Any]) -> str:
    """Return the module in which a class or function is defined, or an empty text if it has none, as partials do."""
    return str(getattr(target, "__module__", None) or "")


def _allow_advice(target: Callable[..., Any]) -> str:
    home = _home_module(target)
    if not home:
        return ""
    return (
        f". If you trust it, set the environment variable {ALLOW_VARIABLE}={home} (several modules: separated by "
        "commas)"
    )
