"""Overrides that leave no usable config are refused in one line that names the key."""

from collections.abc import Iterator

import pytest
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

import mtx.app.resolvers  # noqa: F401  # registers the resolvers of the configs
from mtx.app.grid_check import JobComposer
from mtx.app.hydra_internals import BASIC_SWEEPER
from mtx.app.override_errors import CONFIG_NAME, check_options, composition_error_message, hydra_loader
from mtx.app.sweep_plan import check_sweep_settings
from mtx.errors import ConfigError


@pytest.fixture(scope="module")
def composer() -> Iterator[JobComposer]:
    with hydra_loader() as loader:
        yield JobComposer(loader, CONFIG_NAME, in_sweep=False)


REFUSED = [
    ("~sampler", "a run needs sampler, but the config has no such key. Leave out ~sampler, or choose an option with "),
    ("~datamodule", "a run needs datamodule, "),
    ("~seed", "a run needs seed, but the config has no such key. Leave out ~seed"),
    ("~sampler._target_", "a run needs sampler, "),
    ("seed=${nope:1}", "seed: Unsupported interpolation type nope. Set seed=VALUE"),
    ("seed=${nope}", "seed: Interpolation key 'nope' not found. Set seed=VALUE"),
    ("sampler.max_tokens=${oc.env:MTX_NOPE}", "sampler.max_tokens: "),
    (
        "trainer.callbacks=[{a: choice(1,2)}]",
        "trainer.callbacks=[{a: choice(1,2)}] has a sweep inside of a value, but ",
    ),
    ("+a={b: sort(2,1)}", "+a={b: sort(2,1)} has a sweep inside of a value, but only a whole value can vary. "),
]


@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_a_config_that_no_run_can_use_is_refused_by_its_key(composer: JobComposer, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        composer.config([override])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


HYDRA = [
    (
        "hydra.job.num=abc",
        "hydra.job.num: Value 'abc' of type 'str' could not be converted to Integer. Set hydra.job.num=",
    ),
    ("hydra.run.dir=null", "hydra.run.dir: "),
    ("hydra.nope=1", "hydra has no key 'nope'. There are: callbacks, "),
]


@pytest.mark.parametrize(("override", "message"), HYDRA)
def test_a_setting_of_hydra_is_refused_by_its_key(override: str, message: str) -> None:
    with hydra_loader() as loader, pytest.raises((HydraException, OmegaConfBaseException)) as error:
        loader.load_configuration(CONFIG_NAME, [override], run_mode=RunMode.RUN)
    with hydra_loader() as loader:
        told = composition_error_message(error.value, [override], loader=loader)
    assert told.startswith(message)
    assert "\n" not in told


@pytest.mark.parametrize("override", ["hydra/sweeper=null", "hydra/launcher=3", "+hydra/sweeper=true", "sampler=null"])
def test_a_group_whose_option_is_no_name_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"^[\w/]+ has no option '\w+'. Its options: "):
        check_options([override])


def test_an_interpolation_without_a_key_is_told_with_its_override() -> None:
    error = InterpolationKeyError("Interpolation key 'nope' not found\n    full_key: ")
    with hydra_loader() as loader:
        told = composition_error_message(error, ["launcher=basic", "+hydra.launcher.x=${nope}"], loader=loader)
    assert told == "+hydra.launcher.x=${nope}: Interpolation key 'nope' not found"


def test_a_group_that_cannot_be_deleted_is_told() -> None:
    with hydra_loader() as loader, pytest.raises(HydraException) as error:
        loader.load_configuration(CONFIG_NAME, ["~hydra"], run_mode=RunMode.RUN)
    with hydra_loader() as loader:
        assert "hydra" in composition_error_message(error.value, ["~hydra"], loader=loader)


@pytest.mark.parametrize(("objective", "is_valid"), [({"a": 1}, False), (3, False), ("bleu", True), (["bleu"], True)])
def test_an_objective_that_is_no_name_is_refused(objective: object, is_valid: bool) -> None:
    sweep = {"objective": objective, "direction": None, "budget": None, "confirm": 0}
    hydra = {"launcher": {}, "sweeper": {"_target_": BASIC_SWEEPER}}
    cfg = OmegaConf.create({"sweep": sweep, "hydra": hydra, "task": {"_target_": "own.task"}})
    if is_valid:
        check_sweep_settings(cfg)
    else:
        with pytest.raises(ConfigError, match=r"^sweep.objective is a text or a list, or null, but is "):
            check_sweep_settings(cfg)


@pytest.mark.parametrize("override", ["seed={}", "+a.b=-{}", "sampler.max_tokens=[{}]", "seed=1.{}"])
def test_a_number_that_python_cannot_read_is_refused(override: str) -> None:
    check_options([override.format("1" * 4300)])
    with pytest.raises(
        ConfigError, match=r"^[+\w.]+ has a number of 4,301 digits, but a number has at most 4,300. Set "
    ):
        check_options([override.format("1" * 4301)])
