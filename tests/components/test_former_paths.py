"""Former names of modules work on: the same module, with a note of the new name."""

import importlib
import logging
import subprocess
import sys

import pytest

from mtx.components.former_paths import FORMER, FORMER_ATTRIBUTES, PACKAGE_MODULES


@pytest.mark.parametrize("name", sorted(FORMER))
def test_a_former_name_is_the_module_of_the_new_name(name: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("numba")  # some modules are compiled kernels
    sys.modules.pop(name, None)
    with caplog.at_level(logging.WARNING):
        found = importlib.import_module(name)
    assert found is importlib.import_module(FORMER[name])
    assert f"the module {name} is now called {FORMER[name]}; the former name still works" in caplog.messages
    assert found.__spec__ is not None
    assert found.__spec__.name == FORMER[name]


def test_a_module_in_a_renamed_package_is_loaded_once() -> None:
    former = importlib.import_module("mtx.experiment.sweep.job")
    assert former is importlib.import_module("mtx.sweep.job")


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("mtx.app", "compose_datamodule"),
        ("mtx.infra.dal.remote", "RemoteFolder"),
        ("mtx.infra.dataset.hub", "pinned_commit"),
    ],
)
def test_what_a_module_had_that_is_a_package_now(package: str, name: str) -> None:
    now = importlib.import_module(PACKAGE_MODULES[package])
    assert getattr(importlib.import_module(package), name) is getattr(now, name)


@pytest.mark.parametrize("module", FORMER_ATTRIBUTES)
def test_former_names_of_attributes_are_found_by_the_former_name_of_their_module(module: str) -> None:
    former = next(name for name, now in FORMER.items() if now == module)
    sys.modules.pop(former, None)
    found = importlib.import_module(former)
    for name, now in FORMER_ATTRIBUTES[module].items():
        assert getattr(found, name) is getattr(found, now)


def test_a_name_that_never_was_is_no_module() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"mtx\.never"):
        importlib.import_module("mtx.never")
    with pytest.raises(AttributeError, match="has no attribute 'never'"):
        importlib.import_module("mtx.app").never  # noqa: B018


def test_a_target_of_a_former_path_is_found() -> None:
    code = "import pkgutil; print(pkgutil.resolve_name('mtx.infra.dataset.plan.random.RandomPlanner').__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "mtx.batches.plan.random"
    assert "mtx.infra.dataset.plan is now called mtx.batches.plan" in done.stderr
