"""Find the folder of mtx's packaged configs without importing `mtx.conf`, whose import loads OmegaConf."""

from importlib.util import find_spec
from pathlib import Path


def packaged_config_folder() -> Path:
    """Return the folder that contains `config.yaml` and a folder for each config group."""
    spec = find_spec("mtx.conf")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
