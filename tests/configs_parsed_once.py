"""Let Hydra parse each packaged YAML file once per process."""

import copy
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult


def parsed_once(patch: pytest.MonkeyPatch) -> None:
    """Replace the method that reads a packaged file by one that copies what the first reading returned."""
    Plugins.instance()  # imports its modules anew, so the class exists only after this
    from hydra._internal.core_plugins.importlib_resources_config_source import (
        ImportlibResourcesConfigSource as Packaged,
    )

    read = Packaged._read_config
    known: dict[str, ConfigResult] = {}

    def read_once(source: Packaged, resource: Any) -> ConfigResult:
        key = str(resource)
        if key not in known:
            known[key] = read(source, resource)
        return copy.deepcopy(known[key])

    patch.setattr(Packaged, "_read_config", read_once)
