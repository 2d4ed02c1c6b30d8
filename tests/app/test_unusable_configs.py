"""Overrides that leave no usable config are refused in one line that names the key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

import mtx.app.resolvers  # noqa: F401  # registers the resolvers of the configs
from mtx.app.grid_check import JobComposer
from mtx.app.hydra_internals import BASIC_SWEEPER, wrong_flag_problem
from mtx.app.override_errors import CONFIG_NAME, check_options, composition_error_message, hydra_loader
from mtx.app.plain_config import told_interpolations
from mtx.app.sweep_plan import check_sweep_settings
from mtx.app.sweep_run import _jobs_at_a_time
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
    ("seed=${nope:1}", "seed is '${nope:1}', which calls a resolver that does not exist. Set seed=VALUE"),
    ("seed=${nope}", "seed is '${nope}', which refers to a key that the config does not have. Set seed=VALUE"),
    ("seed=${sampler.nope}", "seed is '${sampler.nope}', which refers to a key that the config does not have. Set "),
    (
        "sampler.max_tokens=${oc.env:MTX_NOPE}",
        "sampler.max_tokens is '${oc.env:MTX_NOPE}', which needs the environment variable MTX_NOPE, "
        "which is not set. Set sampler.max_tokens=VALUE",
    ),
    (
        "seed='${oc.env:PATH}${oc.env:MTX_NOPE}'",
        "seed is '${oc.env:PATH}${oc.env:MTX_NOPE}', which needs the environment variable MTX_NOPE,",
    ),
    ("seed=${of_a_user:}", "seed is '${of_a_user:}', which cannot be resolved: ValueError: the folder is empty. Set"),
    (
        "seed=${oc.create:}",
        "seed is '${oc.create:}', which cannot be resolved: its resolver refuses the arguments. Set",
    ),
    ("seed=${oc.decode:[}", "seed is '${oc.decode:[}', which is not an interpolation, which is ${KEY} or ${RESOLVER:"),
    ("~downloader=local", "~downloader=local deletes a key, but the config has no downloader with the value 'local'. "),
    ("seed@x=3", "seed@x=3: @ names the place of a group's option, but seed is no group. "),
    ("sampler=", "sampler has no option ''. Its options: bucket, "),
    (
        "trainer.callbacks=[{a: choice(1,2)}]",
        "trainer.callbacks=[{a: choice(1,2)}] has a sweep inside of a value, but ",
    ),
    ("+a={b: sort(2,1)}", "+a={b: sort(2,1)} has a sweep inside of a value, but only a whole value can vary. "),
]


@pytest.fixture
def resolver() -> Iterator[None]:
    """A resolver of the user's own, which refuses something."""

    def of_a_user() -> None:
        raise ValueError("the folder is empty")

    OmegaConf.register_new_resolver("of_a_user", of_a_user)
    yield
    OmegaConf.clear_resolver("of_a_user")


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_a_config_that_no_run_can_use_is_refused_by_its_key(composer: JobComposer, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        composer.config([override])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


HYDRA = [
    ("hydra.job.num=abc", "hydra.job.num is an integer, but is 'abc'. Set hydra.job.num=1"),
    ("hydra.job.chdir=7.5", "hydra.job.chdir is true or false, or null, but is '7.5'. Set hydra.job.chdir=true"),
    ("hydra.run.dir=null", "hydra.run.dir is a text, but is None. Set hydra.run.dir=TEXT"),
    ("hydra.job.env_copy=3", "hydra.job.env_copy is a list, but is 3. Set 'hydra.job.env_copy=[ITEM,ITEM]'"),
    ("+hydra.job.env_set.A={b: 1}", "hydra.job.env_set.A is a single value, but is {'b': 1}. Set hydra.job.env_set.A="),
    ("hydra.job.env_set={A: 1}", "hydra.job.env_set has no key 'A'. A new key is added with +, as in +hydra.job.env_"),
    ("hydra.sweeper.params=3", "hydra.sweeper.params is a mapping, but is 3. Set 'hydra.sweeper.params={KEY: VALUE}'"),
    ("hydra.run=3", "hydra.run has keys of its own, and takes no single value. Set one of them, as in hydra.run.dir="),
    ("hydra.mode=FOO", "hydra.mode is one of MULTIRUN, RUN, but is 'FOO'. Set hydra.mode=RUN"),
    ("hydra.searchpath=3", "hydra.searchpath is a list of folders and packages, but is 3. Set 'hydra.searchpath=["),
    ("hydra.run.dir='${'", "hydra.run.dir is '${', which is not an interpolation, which is ${KEY} or "),
    ("~hydra.mode", "~hydra.mode deletes a key, but the config has no hydra.mode with a value. Leave out ~hydra.mode"),
    ("~hydra.run", "hydra.run cannot be deleted. Leave out ~hydra.run"),
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


SAMPLERS = [
    "sampler=null",
    "sampler=nan",
    "sampler=-inf",
    "sampler=1e3",
    "sampler=1_000",
    "sampler=.5",
    "sampler={a: 1}",
]


@pytest.mark.parametrize("override", ["hydra/sweeper=null", "hydra/launcher=3", "+hydra/sweeper=true", *SAMPLERS])
def test_a_group_whose_option_is_no_name_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"^[\w/]+ has no option '[^']+'. Its options: "):
        check_options([override])


OF_HYDRA = [
    (
        "~hydra/launcher",
        "Hydra needs an option of hydra/launcher. Leave out ~hydra/launcher, or choose another option: ",
    ),
    ("~hydra/job_logging", "Hydra needs an option of hydra/job_logging. "),
    ("~hydra/sweeper=basic", "Hydra needs an option of hydra/sweeper. Leave out ~hydra/sweeper=basic, or choose "),
    ("~hydra", "~hydra is refused: Hydra's own settings are set one by one, as in hydra.run.dir="),
    ("hydra=3", "hydra=3 is refused: Hydra's own settings are "),
    ("hydra={run: 3}", "hydra={run: 3} is refused: Hydra's own settings are "),
    ("hydra.sweeper.params={seed: 1}", "hydra.sweeper.params={seed: 1}: Hydra reads hydra.sweeper.params only from "),
]


@pytest.mark.parametrize(("override", "message"), OF_HYDRA)
def test_overrides_of_the_groups_of_hydra_are_refused_before_a_run(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_options([override])
    assert str(error.value).startswith(message)


def test_a_glob_of_options_is_explained_with_the_options() -> None:
    with hydra_loader() as loader:
        told = composition_error_message(ValueError("no loader"), ["sampler=glob(*)"], loader=loader)
    assert told.startswith("'sampler=glob(*)' has several values, and only a sweep runs a job for each. Type: mtx -m ")


def test_an_interpolation_without_a_key_is_told_with_its_override() -> None:
    error = InterpolationKeyError("Interpolation key 'nope' not found\n    full_key: ")
    with hydra_loader() as loader:
        told = composition_error_message(error, ["launcher=basic", "+hydra.launcher.x=${nope}"], loader=loader)
    assert told == "+hydra.launcher.x=${nope}: an interpolation refers to a key that the config does not have"


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


@pytest.mark.parametrize(("content", "option"), [("task: fit", "fit"), ("task:", "NAME")])
def test_a_file_that_sets_a_group_to_a_name_is_told_how_to_choose_the_option(
    content: str, option: str, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{content}\n")
    told = rf"^task is a group, .* that file: - override /task: {option}$"
    with hydra_loader(str(tmp_path)) as loader:
        with pytest.raises(ConfigError, match=told):
            JobComposer(loader, CONFIG_NAME).config(["experiment=mine"])
        cfg = loader.load_configuration(CONFIG_NAME, ["experiment=mine"], run_mode=RunMode.RUN)
    with pytest.raises(ConfigError, match=told), told_interpolations():
        _ = cfg.hydra.run.dir


def test_a_launcher_of_a_users_own_may_name_its_number_of_jobs_in_another_way() -> None:
    assert _jobs_at_a_time(OmegaConf.create({"hydra": {"launcher": {"n_jobs": "auto"}}})) == 1
    assert _jobs_at_a_time(OmegaConf.create({"hydra": {"launcher": {"n_jobs": 3}}})) == 3


def test_the_folder_of_config_path_needs_a_config_and_a_package_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong_flag_problem(["--config-path", "pkg://mtx.conf"]) is None
    assert "has no config.yaml. To add options of your own, type --config-dir FOLDER" in str(
        wrong_flag_problem(["--config-path", str(tmp_path)])
    )
    monkeypatch.chdir(tmp_path.parent)
    told = wrong_flag_problem(["--config-path", tmp_path.name])
    assert told == f"--config-path takes an absolute path. Type: mtx --config-path {tmp_path}"
    (tmp_path / "config.yaml").touch()
    assert wrong_flag_problem(["--config-path", str(tmp_path)]) is None
