"""Which classes and functions a config may name as `_target_`: judged by what a name resolves to, never by the name.

A name is no safe thing to judge by: `torch.nn.utils.rnn.torch.os.system` begins like a layer and is the shell. So the
object is looked up first, and has to be of the kind that its place in the config is for. docs/security.md has the
threats.
"""

import os
import pkgutil
import typing
from collections.abc import Callable
from typing import Any

from mtx.errors import ConfigError

TARGET = "_target_"
ALLOW = "MTX_ALLOW_TARGETS"  # an environment variable, so that no config can widen what configs may do
PACKAGE = "mtx"

# What an option of a group has to be a class of.
BASES = {
    "storage": "mtx.data.store.Store",
    "downloader": "mtx.infra.dataset.download.Downloader",
    "filter": "mtx.data.filter.base.PairFilter",
    "tokenizer": "mtx.data.tokenize.base.Tokenization",
    "sampler": "mtx.infra.dataset.plan.base.Planner",
    "datamodule": "mtx.training.datamodule.TranslationDataModule",
    "model": "pytorch_lightning.LightningModule",
}
# Groups that functions may stand in for: the class, the module of mtx that has the functions, and what to call them.
OR_FUNCTIONS = {
    "trainer": ("pytorch_lightning.Trainer", "mtx.training", "a Trainer"),
    "logger": ("pytorch_lightning.loggers.Logger", "mtx.training.loggers", "a Logger"),
    "task": (None, "mtx.experiment", "a task of mtx"),
}
# What may stand inside a component, beside mtx's own classes: things that take settings and do no work when made.
INSIDE = (
    "mtx.infra.dal.base.ObjectLayer",
    "mtx.infra.dal.base.FileLayer",
    "mtx.infra.dataset.download.Downloader",
    "mtx.data.filter.base.PairFilter",
    "mtx.data.tokenize.base.Tokenization",
    "mtx.infra.dataset.plan.base.Planner",
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


def located(path: Any, key: str) -> Callable[..., Any]:
    """Return what the dotted `path` names, where it may stand at `key` of a config. Raises ConfigError.

    A group's own target is of the group's kind; one further inside is a class of one of the kinds of `INSIDE`, or of
    mtx's own. Other classes, and functions, need their module in the environment variable MTX_ALLOW_TARGETS. To look
    a name up imports its module, which runs it.
    """
    target = _resolved(path, key)
    if (base := BASES.get(key)) is not None:
        if not _is_class_of(target, base):
            raise ConfigError(f"{key}.{TARGET} is a {base.rpartition('.')[2]}, but {path} is none")
    elif key in OR_FUNCTIONS:
        known, module, kind = OR_FUNCTIONS[key]
        if not ((known and _is_class_of(target, known)) or _is_defined_in(target, module) or _is_allowed(target)):
            raise ConfigError(f"{key}.{TARGET} is {kind}, but {path} is none{_how_to_allow(target)}")
    elif not _may_stand_inside(target):
        kinds = ", ".join(name.rpartition(".")[2] for name in INSIDE)
        what = "a class of another kind" if isinstance(target, type) else "no class"
        raise ConfigError(
            f"{key}.{TARGET} names {path!r}, which is {what}. Inside a component stand classes of mtx and of these "
            f"kinds: {kinds}{_how_to_allow(target)}"
        )
    return target


def _resolved(path: Any, key: str) -> Callable[..., Any]:
    try:
        target = pkgutil.resolve_name(path)
    except Exception as error:  # whatever the module at that path raises while it is imported
        raise ConfigError(f"{key}.{TARGET} names {path!r}, which cannot be imported: {error}") from error
    if not callable(target):
        raise ConfigError(f"{key}.{TARGET} names {path!r}, which is a {type(target).__name__}, nothing to call")
    return typing.cast(Callable[..., Any], target)


def _may_stand_inside(target: Callable[..., Any]) -> bool:
    if isinstance(target, type) and (_is_defined_in(target, PACKAGE) or any(_is_class_of(target, b) for b in INSIDE)):
        return True
    return _is_allowed(target)


def _is_class_of(target: Callable[..., Any], base: str) -> bool:
    return isinstance(target, type) and issubclass(target, typing.cast(type, pkgutil.resolve_name(base)))


def _is_allowed(target: Callable[..., Any]) -> bool:
    return any(_is_defined_in(target, name.strip()) for name in os.environ.get(ALLOW, "").split(",") if name.strip())


def _is_defined_in(target: Callable[..., Any], module: str) -> bool:
    """Tell whether a class or function is the module's own, or of one inside it; by whatever path it was reached."""
    return f"{_home(target)}.".startswith(f"{module}.")


def _home(target: Callable[..., Any]) -> str:
    """Return the module that a class or function says it is from; empty where it says none, as partials do."""
    return str(getattr(target, "__module__", None) or "")


def _how_to_allow(target: Callable[..., Any]) -> str:
    home = _home(target)
    if not home:
        return ""
    return f". Where you know it and want it, set the environment variable {ALLOW}={home} (modules, parted by commas)"
