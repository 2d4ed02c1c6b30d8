"""Let OmegaConf read YAML by libyaml: its own reader is slow, and is made anew for each of the config's files."""

from functools import cache
from typing import Any

import yaml
from omegaconf import _utils
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

own_loader = _utils.get_yaml_loader


def read_by_libyaml() -> None:
    """Replace the reader of OmegaConf in this process by one that has the same rules, and parses by libyaml.

    OmegaConf has no public option for it. If PyYAML comes without libyaml, the reader stays as it is.
    """
    if yaml.__with_libyaml__:
        _utils.get_yaml_loader = _loader


@cache
def _loader() -> type[Any]:
    class Loader(yaml.cyaml.CParser, own_loader()):  # type: ignore[misc]  # the base is known at run time alone
        def __init__(self, stream: Any) -> None:
            yaml.cyaml.CParser.__init__(self, stream)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    return Loader
