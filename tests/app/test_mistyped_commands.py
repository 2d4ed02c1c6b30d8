"""What the command line says about mistakes, and the command that it proposes: a shell and Hydra can read it."""

import errno
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import Mtx
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

from mtx.app.command import compose
from mtx.app.corrected_command import is_override, quoted_override, shell_word
from mtx.app.hydra_internals import command_line, omegaconf_errors_as_hydra_errors
from mtx.app.launch_settings_check import check_job_folders, check_launch, check_ranges
from mtx.app.override_errors import check_flags, composition_error_message, hydra_loader, search_path_of
from mtx.app.run_start_errors import run_error_message
from mtx.errors import ConfigError
from mtx.infra.dal.tilde_expansion import expanded_path

PROPOSED = re.compile(r"\bmtx( .+)$", re.MULTILINE)


def told_of(*arguments: str) -> str:
    """Return what the command line says about arguments that it cannot compose."""
    try:
        check_flags(arguments)
        if any("," in text and "'" not in text for text in arguments) and "-m" not in arguments:
            return composition_error_message(ValueError("no other problem"), arguments)
        compose(arguments)
    except ConfigError as error:
        return str(error)
    return ""


def proposals(told: str) -> Iterator[list[str]]:
    """Yield the arguments of the commands that a message proposes, as a shell splits them."""
    for found in PROPOSED.finditer(told):
        yield shlex.split(found[1])


def check_proposals(told: str) -> list[list[str]]:
    """Compose all proposed commands, and return their overrides."""
    found = list(proposals(told))
    assert found, told
    for arguments in found:
        said = command_line(arguments)
        assert not [text for text in said.overrides if not is_override(text)]
        if not said.multirun:
            assert compose(said.overrides)
    return found


WORDS = {
    ("fit",): "task=fit",
    ("show", "storage.root=x"): "task=show",
    ("FIT",): "task=fit",
    ("seed=1", "measure", "sampler=bucket"): "task=measure",
    ("task", "fit"): "task=fit",
    ("task:", "fit"): "task=fit",
    ("sampler", "=", "bucket"): "sampler=bucket",
    ("bucket",): "sampler=bucket",
    ("--task=fit", "seed=3"): "task=fit",
    ("--seed=3",): "seed=3",
    ("--trainer.max_steps=5", "task=fit"): "trainer.max_steps=5",
    ("fti",): "task=fit",
    ("mesure",): "task=measure",
    ("task = fit",): "task=fit",
    ("task=", "fit"): "task=fit",
    ("trainer.max_steps=", "5"): "trainer.max_steps=5",
}


@pytest.mark.parametrize(("arguments", "meant"), WORDS.items(), ids=map(" ".join, WORDS))
def test_a_word_is_answered_with_the_override_that_is_meant(arguments: tuple[str, ...], meant: str) -> None:
    told = told_of(*arguments)
    assert f"Did you mean {meant}?" in told
    assert meant in check_proposals(told)[-1]
    assert "\n" not in told


ADDED = {
    "+trainer.devices=0": "trainer.devices=0",
    "+trainer.gradient_clip_val=-1": "trainer.gradient_clip_val=-1",
    "+trainer.accelerator='a b'": "trainer.accelerator='a b'",
}


@pytest.mark.parametrize(("typed", "meant"), ADDED.items(), ids=ADDED)
def test_a_key_that_is_there_is_set_without_plus(typed: str, meant: str) -> None:
    told = told_of("task=fit", typed)
    assert "has a value already, and + adds only new keys" in told
    assert list(proposals(told)) == [["task=fit", meant]]


FLAGS = {
    ("--multirun=1", "seed=1,2"): "--multirun takes no value. Write --multirun alone",
    ("-mx",): "--multirun takes no value",
    ("--cfg", "yaml"): "--cfg takes one of job, hydra, all, as in: mtx --cfg job",
    ("--info=all_of_it",): "--info takes one of all, config, defaults, ",
    ("task=fit", "--config-dir"): "--config-dir takes a value, as in: mtx --config-dir VALUE",
    (
        "--config-dir",
        "/nope/x",
        "task=check",
    ): "--config-dir takes a folder with your own options, but '/nope/x' is ",
    ("--config-path=/nope",): "--config-path takes a folder that replaces all configs of mtx, but '/nope' is no folder",
    ("--resolve", "task=check"): "--resolve is used together with --cfg or --help, as in: mtx --cfg job --resolve",
    ("--con=x",): "--con may be one of --config-path, --config-name, --config-dir. Write the flag in full",
}


@pytest.mark.parametrize(("arguments", "said"), FLAGS.items(), ids=map(" ".join, FLAGS))
def test_a_flag_with_a_wrong_value_is_told_with_what_it_takes(
    arguments: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told = told_of(*arguments)
    assert said in told
    assert "\n" not in told
    assert capfd.readouterr() == ("", "")


def test_a_group_in_capitals_is_told_with_the_group_first() -> None:
    assert "there is no group or key 'TASK'. There are: task, " in told_of("TASK=check")


@pytest.mark.parametrize("arguments", [("xyzzy",), ("none",), ("default",), ("sampler",), ("--fast",), ("ä",), ("",)])
def test_a_word_that_may_mean_anything_is_told_the_form(arguments: tuple[str, ...]) -> None:
    told = told_of(*arguments)
    assert "is not an override: an override is GROUP=OPTION or GROUP.KEY=VALUE" in told
    assert "Exception" not in told


AWKWARD = [
    "lamps=new.tsv",
    "it's new.tsv",
    "~old/lamps.tsv",
    "Lampen für alle.tsv",
    "a\\b'c.tsv",
    "ends in \\",
    '"quoted" & $HOME `ls` !x.tsv',
    "日本語 (1).tsv",
    "{a}[b].tsv",
    "tab\tin it.tsv",
    "שלום עולם.tsv",
    "a:b;c|d>e.tsv",
    "#1 (copy), #2 = 'b'.tsv",
]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_value_with_special_characters_is_answered_with_the_quoted_override(name: str) -> None:
    arguments = ("downloader=local", f"downloader.path={name}")
    told = told_of(*arguments)
    (proposed,) = check_proposals(told) if told else [arguments]  # Hydra takes some of them as they are
    assert compose(proposed)["downloader"]["path"] == name
    assert "Exception" not in told


def test_several_mistakes_are_corrected_in_one_command() -> None:
    told = told_of("fit", "downloader=local", "downloader.path=it's a.tsv", "storage.root=a=b")
    (proposed,) = check_proposals(told)
    assert proposed == ["task=fit", "downloader=local", "downloader.path='it\\'s a.tsv'", "storage.root='a=b'"]
    assert told.count("is not an override") == 3


@pytest.mark.parametrize("name", [*AWKWARD, "plain.tsv", "lamps, new.tsv", "%41.tsv", "null", "3"])
def test_a_quoted_override_is_the_value_itself(name: str) -> None:
    quoted = quoted_override(f"downloader.path={name}")
    assert quoted is not None
    assert shlex.split(shell_word(quoted)) == [quoted]
    assert compose(["downloader=local", quoted])["downloader"]["path"] == name


@pytest.mark.parametrize("value", ["${", "${}", "a ${b, ${c", "\\${", "$", "${}'", "[{a: ${b}]", "{a: [${b}}"])
def test_an_interpolation_that_cannot_be_parsed_is_proposed_as_text(value: str) -> None:
    told = told_of("downloader=local", f"downloader.path={value}")
    (proposed,) = check_proposals(told) if told else [["downloader=local", f"downloader.path={value}"]]
    assert compose(proposed)["downloader"]["path"].replace("\\$", "$") == value.replace("\\$", "$")


SEVERAL = [
    ("sampler=random,bucket",),
    ("tokenizer.vocab_size=4000,8000",),
    ("task=fit", "seed=range(3)"),
    ("sampler.max_tokens=choice(512,1024)",),
    ("experiment=quick_fit,quick_look", "seed=1"),
]


@pytest.mark.parametrize("arguments", SEVERAL, ids=map(" ".join, SEVERAL))
def test_several_values_are_answered_with_a_sweep(arguments: tuple[str, ...]) -> None:
    told = composition_error_message(ValueError("Ambiguous value"), arguments)
    assert "has several values, and only a sweep runs a job for each. Type: mtx -m " in told
    assert ["-m", *arguments] in list(proposals(told))
    assert "Ambiguous" not in told


def test_an_experiment_that_sweeps_by_itself_needs_no_m_and_another_mistake_is_named() -> None:
    told = composition_error_message(ValueError(), ["experiment=proxy", "seed=1,2", "budge.steps=0"])
    assert told.startswith("there is no group or key 'budge'. ")


def test_an_experiment_with_a_text_in_place_of_settings_of_hydra_starts_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nhydra: MULTIRUN\n")
    told = composition_error_message(ValueError(), ["-cd", str(tmp_path), "experiment=mine", "seed=1,2"])
    assert "'seed=1,2' has several values, and only a sweep runs a job for each. Type: mtx -m " in told


def test_keys_of_another_task_beside_a_check_are_left_out_of_the_proposed_command() -> None:
    arguments = ["experiment=proxy", "task=check", "task.translations=0", "seed=1,2", "++task.contrastive_pairs=0"]
    told = composition_error_message(ValueError(), arguments)
    assert list(proposals(told)) == [["experiment=proxy", "task=check", "seed=1,2"]]


def test_one_value_with_a_comma_is_answered_with_quotes() -> None:
    told = composition_error_message(ValueError(), ["downloader=local", "downloader.path=lamps, new.tsv"])
    assert check_proposals(told)[1] == ["downloader=local", "downloader.path='lamps, new.tsv'"]
    assert "If it is one value with a comma, type: mtx downloader=local \"downloader.path='lamps, new.tsv'\"" in told


OTHER_OPTION = {
    ("downloader.path=lamps.tsv",): "downloader=local",
    ("task=prepare", "downloader.path=lamps.tsv", "seed=1"): "downloader=local",
    ("sampler.batch_size=8",): None,  # several samplers have it
    ("sampler.num_buckets=8",): "sampler=bucket",
    ("tokenizer.alpha=0.1",): "tokenizer=unigram",
    ("downloader.dataset=wmt14",): "downloader=hf",
    ("sampler=random", "sampler.num_buckets=4"): "sampler=bucket",
    ("downloader.sources={}",): "downloader=mixture",
}


@pytest.mark.parametrize(("arguments", "option"), OTHER_OPTION.items(), ids=map(" ".join, OTHER_OPTION))
def test_a_key_of_another_option_is_answered_with_that_option(arguments: tuple[str, ...], option: str | None) -> None:
    told = told_of(*arguments)
    (proposed,) = proposals(told)
    group = arguments[-1 if len(arguments) < 3 else 1].partition(".")[0]
    assert option is None or option in proposed
    assert compose([text for text in proposed if "dataset" not in text] or ["seed=1"])
    assert sum(text.startswith(f"{group}=") for text in proposed) == 1
    assert "\n" not in told


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("logger.prefix=a", "+logger.csv.prefix=a"),
        ("logger.name=a", "logger.csv.name=a"),
        ("logger._target_=my.Logger", "+logger.own._target_=my.Logger"),
    ],
)
def test_a_key_of_one_of_several_components_is_offered_with_its_name(argument: str, meant: str) -> None:
    assert told_of("seed=1", argument).endswith(f": mtx seed=1 {meant}")


PLUS = {
    ("trainer.precision=bf16-mixed",): "+trainer.precision=bf16-mixed",
    ("task=fit", "trainer.benchmark=true"): "+trainer.benchmark=true",
    ("trainer.strategy=ddp_fork",): "+trainer.strategy=ddp_fork",
    ("trainer.overfit_batches=2", "seed=1"): "+trainer.overfit_batches=2",
    ("model._target_=own_lamp_model.MyModel", "model.hidden=64"): "+model.hidden=64",
}


@pytest.mark.parametrize(("arguments", "meant"), PLUS.items(), ids=map(" ".join, PLUS))
def test_an_argument_that_the_class_takes_is_offered_with_a_plus(
    arguments: tuple[str, ...], meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = (
        "import pytorch_lightning as pl\nclass MyModel(pl.LightningModule):\n    def __init__(self, hidden=1): ...\n"
    )
    (tmp_path / "own_lamp_model.py").write_text(model)
    monkeypatch.syspath_prepend(tmp_path)
    told = told_of(*arguments)
    assert "takes it; add it with +: mtx " in told
    (proposed,) = check_proposals(told)
    assert meant in proposed


@pytest.mark.parametrize("text", ["trainer.max_stepz=1", "sampler.max_tokns=3", "trainr.max_steps=3", "seeed=1"])
def test_a_typo_of_a_key_is_offered_no_plus(text: str) -> None:
    told = told_of(text)
    assert "There are: " in told
    assert not list(proposals(told))


VARIABLES = {
    "a number": ["+my_lr=0.1", "model.learning_rate=${my_lr}"],
    "a mapping": ["+my.lr=0.1", "model.learning_rate=${my.lr}"],
    "by a resolver": ["+my_lr=0.1", "model.learning_rate=${oc.select:my_lr,3}"],
    "by another variable": ["+a_lr=0.1", "+b_lr=${a_lr}", "model.learning_rate=${b_lr}"],
    "in a text": ["+lang=de", "storage.root=stores/${lang}/x"],
}


@pytest.mark.parametrize("overrides", VARIABLES.values(), ids=VARIABLES)
def test_a_variable_that_something_refers_to_is_valid(overrides: list[str]) -> None:
    config = compose(overrides)
    assert not {"my_lr", "my", "a_lr", "b_lr", "lang"} & config.keys()
    assert "${" not in str([config["model"], config["storage"]])


@pytest.mark.parametrize(
    "overrides", [["+my_lr=0.1"], ["+lr=0.1", "+model.x=${seed}"], ["+learning=1", "+lea=${seed}"]]
)
def test_a_variable_that_nothing_refers_to_stays_and_is_told(overrides: list[str]) -> None:
    assert overrides[0].lstrip("+").partition("=")[0] in compose(overrides)


@pytest.mark.parametrize("given", ["sampler=random", ("sampler=random", 3), [None], "", [["sampler=random"]]])
def test_overrides_that_are_no_list_of_texts_are_told_in_one_line(given: object) -> None:
    with pytest.raises(ConfigError, match=r"^overrides are a list of texts, but are .*\. Write \[.*\]$"):
        compose(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["steps.inner", "steps.9", "steps.x.y"])
@pytest.mark.parametrize("typed", ["{}=1", "+{}=1", "++{}=1", "~{}"])
def test_a_key_inside_a_list_is_told_with_the_list(key: str, typed: str) -> None:
    told = f"normalise.steps is a list of 2 items, so normalise.{key} does not exist. Set the whole list, as in "
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}'normalise.steps="):
        compose(["normalise=steps", typed.format(f"normalise.{key}")])


def test_an_item_of_a_list_is_set_by_its_number() -> None:
    assert compose(["normalise=steps", "normalise.steps.0=nfkc"])["normalise"]["steps"] == ["nfkc", "whitespace"]


HYDRA_OPTIONS = [
    ("hydra/job_logging=colorlog", "hydra/job_logging has no option 'colorlog'. Its options: "),
    ("hydra/hydra_logging=colourlog", "hydra/hydra_logging has no option 'colourlog'. Its options: "),
    ("hydra/launcher=slurm", "hydra/launcher has no option 'slurm'. Its options: "),
    ("hydra/sweeper=ax", "hydra/sweeper has no option 'ax'. Its options: "),
    ("hydra/output=none", "hydra/output has no option 'none'. Its options: "),
    ("sampler=rndom", "sampler has no option 'rndom'. Its options: random, "),
    ("launcher=slrm", "launcher has no option 'slrm'. Its options: "),
]


@pytest.mark.parametrize(("text", "message"), HYDRA_OPTIONS)
def test_an_option_that_is_not_there_is_told_with_those_that_are(text: str, message: str) -> None:
    told = told_of(text)
    assert message in told
    assert "\n" not in told
    assert "--config-dir" not in told


def test_an_option_in_a_list_and_a_config_that_are_not_there_are_told() -> None:
    with pytest.raises(ConfigError, match=r"^score has no option 'nope'\. Its options: "):
        compose(["score=[rules,nope]"])
    error = MissingConfigException("Cannot find primary config 'nope'", missing_cfg_file="nope")
    with hydra_loader() as loader:
        told = composition_error_message(error, ["--config-name=nope", "seed=1"], loader=loader)
    assert told.startswith("there is no config 'nope'. --config-name takes the name of a YAML file ")


LAUNCHES = [
    ({"n_jobs": 0}, {}, "hydra.launcher.n_jobs is an integer of at least 1, or -1 for all cores, but is 0"),
    ({"timeout_min": 0}, {}, "hydra.launcher.timeout_min is an integer of at least 1, but is 0"),
    ({"nodes": -1}, {}, "hydra.launcher.nodes is an integer of at least 1, but is -1"),
    ({"array_parallelism": 0}, {}, "hydra.launcher.array_parallelism is an integer of at least 1, but is 0"),
    ({}, {"max_batch_size": 0}, "hydra.sweeper.max_batch_size is an integer of at least 1, or null, but is 0"),
    ({}, {"n_trials": -3}, "hydra.sweeper.n_trials is an integer of at least 1, or null, but is -3"),
]


@pytest.mark.parametrize(("launcher", "sweeper", "message"), LAUNCHES)
def test_settings_with_which_no_job_can_start_are_told(
    launcher: dict[str, int], sweeper: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_launch(launcher, sweeper)


@pytest.mark.parametrize("n_jobs", [-1, -2, 1, 64, None])
def test_settings_with_which_jobs_start_are_taken(n_jobs: int | None) -> None:
    check_launch({"n_jobs": n_jobs, "backend": "loky"}, {"max_batch_size": None, "params": None})


@pytest.fixture
def own_options(tmp_path: Path) -> Path:
    (tmp_path / "sampler").mkdir()
    text = "defaults: [token_budget, _self_]\nmax_tokens: 64\n"
    (tmp_path / "sampler" / "small.yaml").write_text(text)
    return tmp_path


PLACES = {
    "searchpath": ["hydra.searchpath=[file://FOLDER]"],
    "searchpath without a scheme": ["hydra.searchpath=[FOLDER]"],
    "overridden searchpath": ["++hydra.searchpath=[file://FOLDER]"],
    "searchpath of two": ["hydra.searchpath=[pkg://mtx.conf,file://FOLDER]"],
    "searchpath with a missing folder": ["hydra.searchpath=[file:///nope,file://FOLDER]"],
    "config_dir": ["--config-dir", "FOLDER"],
    "-cd": ["-cd", "FOLDER"],
}


@pytest.mark.parametrize("place", PLACES)
def test_options_of_the_user_are_known_to_messages(own_options: Path, place: str) -> None:
    flags = [text.replace("FOLDER", str(own_options)) for text in PLACES[place]]
    told = composition_error_message(ValueError("no problem"), [*flags, "sampler=small", "sampler.max_tokns=4"])
    assert "sampler has no key 'max_tokns'. There are: max_tokens" in told
    with hydra_loader(command_line(flags).config_dir, search_path_of(command_line(flags).overrides)) as loader:
        assert "small" in loader.get_group_options("sampler")


def test_only_options_that_can_have_a_mistyped_key_are_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    load_configuration = ConfigLoaderImpl.load_configuration
    composed: list[str] = []

    def load(loader: ConfigLoaderImpl, name: str, overrides: list[str], **options: Any) -> Any:
        composed.extend(overrides)
        return load_configuration(loader, name, overrides, **options)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", load)
    told = composition_error_message(ValueError("no problem"), ["sampler=token_budget", "sampler.num_shapes=4"])
    assert "sampler=static_shapes has it" in told
    assert composed == ["sampler=token_budget", "sampler=static_shapes"]


@pytest.mark.parametrize("name", ["~nosuchuser/a.tsv", "~nosuchuser", "~no such user/a"])
def test_a_tilde_without_such_a_user_is_a_name(name: str) -> None:
    assert expanded_path(name) == Path(name)


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded_path("~/a.tsv") == tmp_path / "a.tsv"


def raised(make: Callable[[], object]) -> BaseException:
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def no_log_file() -> None:
    try:
        Path("/proc/nothing/here.log").touch()
    except OSError as error:
        raise ValueError("Unable to configure handler 'file'") from error


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number), "outputs/2026-01-01")


UNWRITABLE: dict[str, Callable[[], object]] = {
    "a folder in /proc": lambda: Path("/proc/outputs/a").mkdir(parents=True),
    "a file": lambda: Path("/proc/nothing/config.yaml").write_text("a"),
    "a file in the way": lambda: (Path(__file__) / "outputs").mkdir(),
    "a log file": no_log_file,
    "a name that is too long": lambda: (Path(__file__).parent / ("x" * 300)).mkdir(),
    "a link to itself": lambda: refuse(errno.ELOOP),
    "a disk that is read-only": lambda: refuse(errno.EROFS),
    "a folder of another user": lambda: refuse(errno.EACCES),
    "a disk that is full": lambda: refuse(errno.ENOSPC),
    "a quota": lambda: refuse(errno.EDQUOT),
}


@pytest.mark.parametrize("make", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_folder_that_cannot_be_written_is_told_in_one_line(make: Callable[[], object]) -> None:
    told = run_error_message(raised(make), [])
    assert told is not None
    assert "the folder of the run cannot be written: " in told
    assert "hydra.run.dir=FOLDER" in told
    assert "\n" not in told


def test_another_error_is_no_unwritable_folder() -> None:
    assert run_error_message(ValueError("a bug"), ["task=show", "seed=1"]) is None


@pytest.mark.parametrize(
    "typed",
    [
        *("hydra.verbose=3", "'hydra.verbose=[3]'", "hydra.job_logging.version=3", "'hydra.job.env_copy=[NONE]'"),
        *("+hydra.callbacks.x._target_=a.B", "'hydra.searchpath=[nope://x]'"),
    ],
)
def test_a_setting_at_which_hydra_fails_is_named_in_one_line(typed: str) -> None:
    error = raised(lambda: [][1]).with_traceback(None)  # as of Hydra, not of this file
    told = run_error_message(error, ["task=show", typed.strip("'"), "hydra.run.dir=run"])
    assert told is not None
    assert told.startswith(
        f"Hydra cannot start the run with {typed} (Python reports IndexError). Leave out or correct "
    )
    assert "\n" not in told


def test_an_error_inside_the_job_is_no_setting_of_hydra() -> None:
    namespace = {"__name__": "mtx.app.command"}
    exec("def _hydra_main():\n    raise ValueError('a bug')", namespace)  # a frame as that of the job
    assert run_error_message(raised(namespace["_hydra_main"]), ["hydra.verbose=3"]) is None  # type: ignore[arg-type]


def raised_in(module: str, error: Exception) -> BaseException:
    """Return an error that a function of a module has raised, as its traceback says."""
    namespace = {"__name__": module, "error": error.with_traceback(None)}
    exec("def function():\n    raise error", namespace)
    return raised(namespace["function"])  # type: ignore[arg-type]


@pytest.mark.parametrize("module", ["mtx.sweep.terminal_summary", "mtx.page.render", "mtx.app.sweep_plan"])
def test_a_fault_of_mtx_outside_of_the_job_is_no_setting_of_hydra(module: str) -> None:
    assert run_error_message(raised_in(module, KeyError("x")), ["hydra.sweep.dir=x", "hydra.verbose=3"]) is None


def test_a_file_that_is_missing_after_the_jobs_is_not_the_folder_of_the_run() -> None:
    error = FileNotFoundError(2, "No such file or directory", "/somewhere/else")
    assert run_error_message(raised_in("mtx.sweep.terminal_summary", error), ["hydra.sweep.dir=x"]) is None
    told = run_error_message(raised_in("mtx.app.sweep_run", error), ["hydra.sweep.dir=x"])
    assert told is not None
    assert told.startswith("the folder of the run cannot be written: No such file")


def test_the_folder_of_a_run_is_only_named_for_errors_of_files() -> None:
    assert run_error_message(raised_in("hydra.core.utils", KeyError("x")), ["hydra.run.dir=x"]) is None
    told = run_error_message(raised(lambda: "\udcff".encode()), ["hydra.run.dir=x"])
    assert told is not None
    assert told.startswith("Hydra cannot start the run with hydra.run.dir=x")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("range(1,3,0)", "none"),
        ("range(3,1)", "none"),
        ("range(1,3,-1)", "none"),
        ("range(0,1,nan)", "none"),
        ("shuffle(range(2,2))", "none"),
        ("range(0,1e300)", "too many"),
        ("range(0,inf)", "too many"),
        ("range(0,1000001)", "too many"),
    ],
)
def test_a_range_without_values_or_with_too_many_is_refused(values: str, said: str) -> None:
    parsed = OverridesParser.create().parse_overrides([f"seed={values}"])
    with pytest.raises(ConfigError) as raised:
        check_ranges(parsed)
    assert f"gives {said}. Set 'seed=range(0,3)', or 'seed=range(3,0,-1)' to count down" in str(raised.value)


def test_an_interval_is_refused_in_a_grid() -> None:
    with pytest.raises(ConfigError, match=r"^budget.seconds=interval\(0,1\) gives no values to a grid, ") as raised:
        check_ranges(OverridesParser.create().parse_overrides(["seed=1,2", "budget.seconds=interval(0,1)"]))
    assert "Set 'budget.seconds=choice(VALUE,VALUE)', or choose one that draws: sweeper=optuna" in str(raised.value)


def test_the_range_of_a_search_may_have_any_number_of_values(mtx: Mtx, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ("-m", "sweeper=optuna", "seed=range(0,2000000)", "hydra.sweep.subdir=one")
    done = mtx(*search, f"hydra.sweep.dir={tmp_path}")  # the check of the folders comes after that of the ranges
    assert "hydra.sweep.subdir is the folder of each job" in done.err


@pytest.mark.parametrize("values", ["range(3)", "range(3,0,-1)", "range(0,1,0.25)", "range(0,1000000)", "1,2", "3"])
def test_ranges_with_values_are_swept(values: str) -> None:
    check_ranges(OverridesParser.create().parse_overrides([f"seed={values}"]))


def test_jobs_never_share_a_folder() -> None:
    with pytest.raises(
        ConfigError, match=r"so that no job writes over another, but is 'x'\. Set 'hydra\.sweep\.subdir=x-"
    ):
        check_job_folders("x", 2)
    with pytest.raises(ConfigError, match="must contain an interpolation"):
        check_job_folders("x", None)  # a search
    check_job_folders("x", 1)
    check_job_folders("${seed}", 2)


def test_a_mistyped_key_of_hydra_is_told_with_the_launcher_that_has_it() -> None:
    told = told_of("hydra.launcher.n_jobs=2", "hydra.job.chdr=true")
    assert "launcher=joblib has it: mtx launcher=joblib hydra.launcher.n_jobs=2 hydra.job.chdr=true" in told
    assert "hydra.job has no key 'chdr'. There are: chdir, " in told


def test_an_option_of_mtx_whose_plug_in_is_missing_says_what_to_install(mtx: Mtx) -> None:
    found = mtx("launcher=ray")  # its plug-in does not go into the environment of the tests
    assert found.code == 1
    assert found.err == (
        "mtx: launcher=ray needs a Hydra plug-in that is not installed: pip install 'mtx[ray]', in its own "
        "environment, since it needs an older cloudpickle\n"
    )


@pytest.mark.parametrize(
    "override",
    [
        "hydra/launcher=nan",
        "hydra/launcher=1_000",
        "~hydra/launcher=1",
        "hydra.sweeper.params.inner=1",
        "hydra.sweeper.params={seed: 1}",
        "hydra/launcher=${oc.env:MTX_NOT_SET,null}",
        "hydra/sweeper=interval(0,1)",
        "sampler=interval(0,1)",
    ],
)
def test_an_override_at_which_hydra_itself_fails_is_refused_in_a_line(override: str, mtx: Mtx) -> None:
    found = mtx("task=show", override)
    assert found.code == 1
    assert len(found.err.splitlines()) == 1
    assert override.strip("~").partition("=")[0] in found.err


@dataclass
class PlugInOptions:
    """The schema of a plug-in of Hydra, such as of its Optuna sweeper."""

    rate: float = 0.5


def test_a_number_that_no_float_holds_is_no_trace_of_omegaconf() -> None:
    options = OmegaConf.structured(PlugInOptions)
    told = "^a number is too large$"
    with pytest.raises(ConfigCompositionException, match=told), omegaconf_errors_as_hydra_errors():
        options.rate = 10**400
