"""Let OmegaConf read the packaged config by libyaml: its own reader is slow, and is made anew for each file."""

import os
from functools import cache
from importlib import resources
from typing import Any

import yaml
from omegaconf import _utils
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

PACKAGES = ("mtx.conf", "hydra.conf")  # files of other places keep OmegaConf's reader, whose dialect differs in details

own_loader = _utils.get_yaml_loader


def read_by_libyaml() -> None:
    """Let OmegaConf in this process parse the packaged files by libyaml, with its own rules for types and keys.

    OmegaConf has no public option for it. If PyYAML comes without libyaml, the reader stays as it is.
    """
    if yaml.__with_libyaml__:
        _utils.get_yaml_loader = lambda: _loader_of


def _loader_of(stream: Any) -> Any:
    name = getattr(stream, "name", None)
    is_packaged = isinstance(name, str) and name.startswith(_packaged_folders())
    return (_libyaml_loader() if is_packaged else _own_loader())(stream)


@cache
def _packaged_folders() -> tuple[str, ...]:
    return tuple(f"{resources.files(package)}{os.sep}" for package in PACKAGES)


@cache
def _own_loader() -> type[Any]:
    loader: type[Any] = own_loader()
    return loader


@cache
def _libyaml_loader() -> type[Any]:
    class Loader(yaml.cyaml.CParser, _own_loader()):  # type: ignore[misc]  # the base is known at run time alone
        def __init__(self, stream: Any) -> None:
            yaml.cyaml.CParser.__init__(self, stream)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    return Loader
