"""The contract of everything in conf/: found by globbing, so a new option needs no edit here."""

import copy
import functools
import inspect
import itertools
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from cached_composition import cache_composition
from hydra.types import RunMode
from omegaconf import OmegaConf

from mtx.app.command import compose
from mtx.app.override_errors import CONFIG_NAME, hydra_loader
from mtx.components.check_and_build import MISSING_VALUE, TARGET_KEY, build, check_config
from mtx.components.groups import GROUPS as TABLE
from mtx.errors import MtxError

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml"))

CLASSES = [name for name, group in TABLE.items() if group.functions is None]

# What a user has to give with an option, since there is no sensible default.
NEEDED = {
    "downloader/hf": ["downloader.dataset=some/name", "downloader.language=de-en"],
    "downloader/back_translation": ["downloader.ckpt=de-en.ckpt", "downloader.text=news.de"],
    "downloader/local": ["downloader.path=corpus.jsonl"],
    "downloader/mixture": ["downloader.sources={news: news.tsv, web: web.tsv}"],
    "score/given": ["score.given.column=quality"],
    "score/embeddings": [
        "score.embeddings.encoder={_target_: mtx.data.score.text_encoder.SentenceTransformersEncoder, folder: LaBSE}"
    ],
    "tokenizer/pretrained": ["tokenizer.filepath=tokenizer.json"],
    "tokenizer/sentencepiece": ["tokenizer.filepath=spm.model"],
    "tokenizer/vocabulary_file": ["tokenizer.filepath=dict.txt"],
    "filter/opusfilter": [f"filter.path={CONF.parent / 'tests/data/filter/opusfilter_config.yaml'}"],
    "model/own": ["model._target_=pytorch_lightning.demos.boring_classes.BoringModel"],
}
GROUPS = {
    "storage": {"sqlite_arrow", "shelve_jsonl"},
    "downloader": {"sample", "hf", "local", "mixture"},
    "score": {"rules", "near_duplicates", "duplicates", "contamination", "language", "given", "embeddings"},
    "normalise": {"default", "none", "steps"},
    "filter": {"default", "none", "selection", "opusfilter"},
    "tokenizer": {"bpe", "unigram", "wordpiece", "byte", "pretrained", "sentencepiece", "vocabulary_file"},
    "sampler": {"bucket", "token_budget", "static_shapes", "random", "sequential", "sorted"},
    "task": {"measure", "prepare", "scores", "show", "check", "fit"},
}


@functools.cache
def _composed(option: str) -> dict[str, Any]:
    group, name = option.split("/")
    return compose([f"{group}={name}", *NEEDED.get(option, [])])


def composed(option: str) -> dict[str, Any]:
    return copy.deepcopy(_composed(option))


# What plug-ins of Hydra an option takes; those that are not installed with the tests are tried by hand.
PLUG_INS = {
    "launcher/joblib": "hydra_plugins.hydra_joblib_launcher",
    "launcher/submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "launcher/submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
    "launcher/ray": "hydra_plugins.hydra_ray_launcher",
    "sweeper/optuna": "hydra_plugins.hydra_optuna_sweeper",
}


# The package of an extra that an option needs when it is built.
PACKAGES = {"engine/dask": "distributed", "engine/ray": "ray"}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_binds_to_what_it_names(option: str) -> None:
    if option in PLUG_INS and find_spec(PLUG_INS[option]) is None:
        pytest.skip(f"NOT TRIED: {PLUG_INS[option]} is not installed; the header of conf/{option}.yaml says how")
    check_config(composed(option))


@pytest.mark.parametrize("option", [option for option in PLUG_INS if find_spec(PLUG_INS[option]) is None])
def test_an_option_whose_plug_in_is_missing_says_what_to_install(option: str) -> None:
    extra = option.split("/")[1].partition("_")[0]
    with pytest.raises(MtxError, match=rf"{option.replace('/', '=')} needs .* pip install 'mtx\[{extra}\]'"):
        composed(option)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.split("/")[0] in CLASSES])
def test_every_component_is_made_and_is_of_its_kind(option: str) -> None:
    group = option.split("/")[0]
    if group in ("datamodule", "model"):
        pytest.skip("made from the data; tests/training and tests/experiment do")
    if option in PACKAGES and find_spec(PACKAGES[option]) is None:
        pytest.skip(f"NOT TRIED: {PACKAGES[option]} is not installed; the header of conf/{option}.yaml says how")
    config = composed(option)
    name = option.replace("/", ".") if TABLE[group].is_multiple else group
    described = config[group][option.split("/")[1]] if TABLE[group].is_multiple else config[group]
    made = build({name: described}, name)
    target = described[TARGET_KEY]
    assert f"{type(made).__module__}.{type(made).__qualname__}" == target


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_says_what_it_is_for_how_to_launch_it_and_what_to_override(option: str) -> None:
    group, name = option.split("/")
    text = (CONF / f"{option}.yaml").read_text()
    comments = itertools.takewhile(lambda line: line.startswith("#"), text.split("\n"))
    header = [line for line in comments if not line.startswith("# @package")]
    assert header, f"conf/{option}.yaml opens with a comment that says its purpose"
    launches = [line for line in header if re.match(r"#\s+mtx ", line)]
    is_multiple = group in TABLE and TABLE[group].is_multiple
    choice = re.compile(rf"{group}=(\[(\w+,)*{name}\]|{name}\b)" if is_multiple else f"{group}={name}")
    assert any(choice.search(line) for line in launches) or name == "default", launches
    assert any("." in line.split("=")[0].split()[-1] or line.count("=") > 1 for line in launches), launches


@pytest.mark.parametrize("option", OPTIONS)
def test_every_field_is_explained(option: str) -> None:
    lines = (CONF / f"{option}.yaml").read_text().split("\n")
    unexplained = []
    explained = False  # a comment explains the fields that follow it without a gap
    for line in lines:
        if line.strip().startswith("#"):
            explained = True
        elif not line.strip():
            explained = False
        elif re.match(r"[a-z_]+:", line) and not line.startswith(("_", "defaults:", "task:")) and not explained:
            unexplained.append(line)
    assert not unexplained


@pytest.mark.parametrize(("group", "names"), GROUPS.items())
def test_the_options_that_users_know_are_there(group: str, names: set[str]) -> None:
    assert names <= {path.stem for path in (CONF / group).glob("*.yaml")}


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.split("/")[0] in CLASSES])
def test_the_yaml_shows_every_setting_with_its_default(option: str) -> None:
    """A setting that a component takes and its YAML leaves out is one that users cannot find."""
    config = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    if config[TARGET_KEY] == MISSING_VALUE:
        pytest.skip("takes what the class that a user names takes")
    group = option.split("/")[0]
    parameters = inspect.signature(pkgutil.resolve_name(config[TARGET_KEY])).parameters
    hidden = {
        name
        for name, p in parameters.items()
        if p.kind is not p.VAR_KEYWORD and name not in config and name not in TABLE[group].filled_in
    }
    assert hidden <= HIDDEN_ON_PURPOSE.get(group, set())
    if group == "model":
        return  # the YAML's model is small, so that a first training on a CPU takes a minute
    defaults = {name: list(p.default) if isinstance(p.default, tuple) else p.default for name, p in parameters.items()}
    written = {name: value for name, value in config.items() if parameters.get(name) and "${" not in str(value)}
    fixed = {name for name in written if defaults[name] is inspect.Parameter.empty or "factory" in str(defaults[name])}
    other = {name: value for name, value in written.items() if name not in fixed and value != defaults[name]}
    assert other == OTHER_ON_PURPOSE.get(option, {}), "made in Python, the component would behave in another way"


# Settings whose YAML differs from the class.
OTHER_ON_PURPOSE = {
    "filter/selection": {"before": {}},  # the defaults list puts filter=default there
    "storage/files_arrow": {"datasets": "datasets-files"},  # a folder of its own beside that of sqlite_arrow
    "tokenizer/pretrained": {"filepath": MISSING_VALUE},  # required; the class says so itself
    "tokenizer/sentencepiece": {"filepath": MISSING_VALUE},
    "tokenizer/vocabulary_file": {"filepath": MISSING_VALUE},
}

# Settings that the pipeline gives, or that the data fills in.
HIDDEN_ON_PURPOSE = {
    "tokenizer": {"filepath", "train_on"},  # the latter of vocabularies that learn nothing
    "model": {
        "source_vocab_size",
        "target_vocab_size",
        "pad_id",
        "bos_id",
        "eos_id",
        "joint_vocabulary",
        "forced_target_tokens",
        "source_pad_id",
    },
}


def test_a_component_that_refuses_a_value_says_so_before_any_work() -> None:
    with pytest.raises(MtxError, match=r"sampler\.batch_size"):
        build(compose(["sampler=bucket", "sampler.batch_size=0"]), "sampler")


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=quick_fit", "tokenizer.vocab_size=300"],
        ["filter=selection", "filter@filter.before=selection", "+filter.rules.a={column: source_chars, max: 3}"],
        ["downloader=mixture", "downloader.sources={news: news.tsv}", "hydra/job_logging=disabled"],
        ["experiment=quick_look", "tokenizer=byte", "~tokenizer.vocab_size", "++trainer.max_steps=${seed}"],
        ["sampler=random,bucket", "seed=1,2"],
    ],
    ids=" ".join,
)
def test_the_caches_of_the_tests_change_no_config(overrides: list[str], cached_composition: pytest.MonkeyPatch) -> None:
    def composed_whole() -> str:
        with hydra_loader() as loader:
            mode = RunMode.MULTIRUN if "seed=1,2" in overrides else RunMode.RUN
            return OmegaConf.to_yaml(loader.load_configuration(CONFIG_NAME, overrides, mode))

    first, cached = composed_whole(), composed_whole()
    assert first == cached
    cached_composition.undo()
    try:
        assert composed_whole() == cached
    finally:
        cache_composition(cached_composition)
