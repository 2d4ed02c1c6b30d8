"""Let Hydra compose configs faster, because the tests compose thousands: what does not change is computed once.

A composition took 0.18 s of CPU time; with these caches, it takes a tenth of that. Its result is the same, and
`tests/components/test_conf.py` compares both.
"""

import copy
import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import base

CONSTANT_SCHEMES = {"pkg", "structured"}  # sources whose files no test changes


def cache_composition(patch: pytest.MonkeyPatch) -> None:
    """Replace the slow methods of Hydra until `patch` is undone."""
    _read_packaged_files_once(patch)
    _parse_interpolations_once(patch)
    _list_files_once(patch)
    _merge_files_once(patch)
    _map_choices_where_needed(patch)
    # Each composition copies its sources, and with them all of this store, which it never changes.
    patch.setattr(ConfigStore, "__deepcopy__", lambda store, _: store, raising=False)


def _read_packaged_files_once(patch: pytest.MonkeyPatch) -> None:
    """Parse each packaged file once, and ask once whether there is one: later calls copy what the first returned."""
    Plugins.instance()  # imports its modules anew, so the class exists only after this
    from hydra._internal.core_plugins.importlib_resources_config_source import (
        ImportlibResourcesConfigSource as Packaged,
    )

    read = Packaged._read_config
    known: dict[str, bytes] = {}

    def read_once(source: Packaged, resource: Any) -> Any:
        key = str(resource)
        if key not in known:
            known[key] = pickle.dumps(read(source, resource))
        return pickle.loads(known[key])

    def once(name: str) -> Callable[..., Any]:
        look = getattr(Packaged, name)
        answers: dict[str, Any] = {}

        def look_once(source: Packaged, *arguments: Any, **named: Any) -> Any:
            key = repr((source.path, arguments, named))
            if key not in answers:
                answers[key] = look(source, *arguments, **named)
            return copy.copy(answers[key])

        return look_once

    patch.setattr(Packaged, "_read_config", read_once)
    for name in ("is_config", "is_group", "list"):
        patch.setattr(Packaged, name, once(name))


def _parse_interpolations_once(patch: pytest.MonkeyPatch) -> None:
    """Parse each text such as `${seed}` once: nothing changes the tree that the parser returns."""
    patch.setattr(base, "parse", lru_cache(10_000)(base.parse))


def _list_files_once(patch: pytest.MonkeyPatch) -> None:
    """Find out once which files a set of choices asks for; overrides of single values have no part in it."""
    find: Callable[..., DefaultsList] = config_loader_impl.create_defaults_list
    known: dict[str, bytes] = {}

    def find_once(repo: Any, config_name: str | None, overrides_list: list[Any], **options: bool) -> DefaultsList:
        sources = repo.get_sources()
        if any(source.scheme() not in CONSTANT_SCHEMES for source in sources):
            return find(repo, config_name, overrides_list, **options)
        are_choices = [
            not isinstance(one.value(), dict) and repo.group_exists(one.key_or_group) for one in overrides_list
        ]
        choices = [one for one, is_choice in zip(overrides_list, are_choices, strict=True) if is_choice]
        key = repr((config_name, [one.input_line for one in choices], options, [each.full_path() for each in sources]))
        if key not in known:
            known[key] = pickle.dumps(find(repo, config_name, choices, **options))
        found: DefaultsList = pickle.loads(known[key])
        values = [one for one, is_choice in zip(overrides_list, are_choices, strict=True) if not is_choice]
        found.config_overrides += [one for one in values if not one.is_sweep_override()]
        return found

    patch.setattr(config_loader_impl, "create_defaults_list", find_once)


def _merge_files_once(patch: pytest.MonkeyPatch) -> None:
    """Merge each list of files once, if all come with packages; the overrides of single values follow later."""
    merge: Callable[..., Any] = ConfigLoaderImpl._compose_config_from_defaults_list
    known: dict[str, bytes] = {}

    def merge_once(loader: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
        sources = repo.get_sources()
        if any(source.scheme() not in CONSTANT_SCHEMES for source in sources):
            return merge(loader, defaults, repo)
        key = repr((defaults, [source.full_path() for source in sources]))
        if key not in known:
            merged = merge(loader, defaults, repo)
            known[key] = pickle.dumps(merged)
            return merged
        return pickle.loads(known[key])

    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once)


def _map_choices_where_needed(patch: pytest.MonkeyPatch) -> None:
    """Make the map of all choices only for a file whose defaults refer to a choice: Hydra reads it for no other."""
    make = defaults_list._create_interpolation_map

    def make_if_needed(overrides: Any, listed: list[Any], self_added: bool) -> Any:
        refer = any(not default.is_self() and default.is_interpolation() for default in listed)
        return make(overrides, listed, self_added) if refer else None

    patch.setattr(defaults_list, "_create_interpolation_map", make_if_needed)
