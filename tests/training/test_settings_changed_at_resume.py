"""Each option that decides which pairs are served: a changed value is refused by its name when a run resumes.

The tests read the options from the option reference, so that a new option is tested, or has to be classified here.
"""

import copy
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import mtx.app.resolvers  # noqa: F401  # registers the resolvers of the configs
from mtx.app.grid_check import JobComposer
from mtx.app.override_errors import CONFIG_NAME, hydra_loader
from mtx.components.allowed_targets import allowed_target
from mtx.components.check_and_build import build, parameter_annotations
from mtx.components.checked_options import problem_of
from mtx.components.identity import identity
from mtx.components.option_reference import all_options
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError
from mtx.experiment.run_context import datamodule_of
from mtx.training.lightning_resume import check_same_data
from mtx.training.shard_stream_loader import ShardStreamLoader

OPTIONS = {f"{option.group}/{option.name}": option for option in all_options()}
SOURCES = ("downloader/hf", "downloader/sample")  # sources whose identity is tested without reading them
BY_COMPONENT = ("normalise", "filter", "score", "sampler", "tokenizer")  # groups whose identity alone decides
NEEDS = {  # further overrides of an option, so that it can be built
    "filter/selection": ["score=[rules]"],
    "tokenizer/pretrained": ["tokenizer.filepath=tokenizer.json"],
    "downloader/hf": ["downloader.dataset=user/set", "downloader.shuffle=true"],
}
# Options whose value changes no pair that is served, nor its place in the epoch.
SERVED = {
    "filter/default": {
        "ratio_floor_words",
        "memory_gb",
    },  # without effect, and not in the identity, while max_word_ratio is null
    "tokenizer/pretrained": {"filepath", "target_filepath", "revision"},  # the content of the files counts
    "downloader/hf": {"verify", "patience_s"},
    "score/language": {"source_language", "target_language"},  # without effect, and not in the identity, here
    "score/duplicates": {"memory_gb"},
    "score/near_duplicates": {"memory_gb"},
    "score/combined": {"other_texts"},  # the content of the file counts, not its place
    "filter/selection": {"ablation_seed"},  # without effect, and not in the identity, but for pairs dropped at random
}
# Options whose component needs a file or another component, with the tests of their identities.
BY_OTHER_TESTS = {
    *("filter/opusfilter", "score/embeddings", "score/given", "tokenizer/sentencepiece", "tokenizer/vocabulary_file"),
}
BY_REVISION = {"downloader/hf": {"revision"}}  # the commit is part of what the Hub says


class Composer:
    """Composes configs; equal overrides are composed once."""

    def __init__(self) -> None:
        self._loader = hydra_loader()
        self._composer = JobComposer(self._loader.__enter__(), CONFIG_NAME)
        self._configs: dict[tuple[str, ...], dict[str, Any]] = {}

    def __call__(self, *overrides: str) -> dict[str, Any]:
        if overrides not in self._configs:
            config = self._composer.config(overrides)
            assert config is not None
            self._configs[overrides] = config
        return copy.deepcopy(self._configs[overrides])

    def close(self) -> None:
        self._loader.__exit__(None, None, None)


@pytest.fixture(scope="module")
def composed() -> Iterator[Composer]:
    composer = Composer()
    yield composer
    composer.close()


def choices(annotation: Any) -> list[Any]:
    """Return the choices of all literals in an annotation."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return list(arguments)
    return [choice for part in arguments for choice in choices(part)]


def changed(annotation: Any, value: Any) -> Any:
    """Return another value that the annotation accepts."""
    numbers = [value + 1, value - 1, value / 2 or 0.1] if isinstance(value, int | float) else [5, 300, 5000, 2.0]
    for other in (*([not value] if isinstance(value, bool) else numbers), *choices(annotation), 0.9, "other", ["nfc"]):
        if other != value and problem_of("", annotation, other) is None:
            return other
    raise AssertionError(f"no other value than {value!r} is known for {annotation}")


def node(config: Any, keys: list[str]) -> Any:
    for key in keys:
        config = config[key]
    return config


def described(config: dict[str, Any], group: str, name: str) -> Any:
    """What the component says of itself, as a checkpoint has it."""
    component = build({group: config[group][name]} if group == "score" else config, group)
    if group == "tokenizer":
        return {
            **component.identity(),
            **component.sampling(),
            "joint": component.joint,
            "train_on": component.train_on,
        }
    return component._identity if name == "hf" else identity(component)


@pytest.mark.parametrize(
    "option",
    [
        name
        for name in OPTIONS
        if name.partition("/")[0] in BY_COMPONENT or name in SOURCES
        if name not in BY_OTHER_TESTS
    ],
)
def test_a_component_tells_each_of_its_options(
    option: str, composed: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ByteTokenization().tokenizer.save("tokenizer.json")
    group, _, name = option.partition("/")
    chosen = f"{group}=[{name}]" if group == "score" else f"{group}={name}"
    overrides = [chosen, *NEEDS.get(option, [])]
    before = described(composed(*overrides), group, name)
    if group == "filter" and name == "default":  # bounds that are off have no floor
        overrides += ["filter.max_word_ratio=9.0"]
        before = described(composed(*overrides), group, name)
    for field in OPTIONS[option].fields:
        keys = field.key.split(".")
        config = composed(*overrides)
        owner = node(config, keys[:-1])
        if keys[-1] in SERVED.get(option, set()) - {"ratio_floor_words"} | BY_REVISION.get(option, set()):
            continue
        target = owner.get("_target_")
        annotation = parameter_annotations(allowed_target(target, group))[0][keys[-1]] if target else float | str | None
        owner[keys[-1]] = changed(annotation, owner[keys[-1]])
        with pytest.raises(ConfigError, match=rf"\b{keys[-1] if target else group}\b"):
            check_same_data({group: before, "filtered": 1}, {group: described(config, group, name), "filtered": 2})


TEXTS = [(f"lamp {'very ' * (i % 7)}{i}", f"lampe {'sehr ' * (i % 5)}{i}") for i in range(40)]
LOCAL = ["downloader=local", "downloader.path=paths.tsv", "downloader.columns=[domain,talk]"]
NAMED = [
    "downloader=local",
    "downloader.path=paths.tsv",
    "downloader.source_column=src",
    "downloader.target_column=tgt",
]
LINES = ["downloader=local", "downloader.source_path=a.en", "downloader.target_path=a.de"]
MIXED = ["downloader=mixture", "downloader.sources={a: {path: paths.tsv}, b: {path: other.tsv}}"]
WEIGHTED = [*MIXED, "downloader.weights={a: 1, b: 2}"]
GROUPED = [*LOCAL, "datamodule.group_by=domain", "datamodule.group_weights={x: 1, y: 3}"]
WEIGHED = [
    *("downloader=local", "downloader.path=paths.tsv", "downloader.columns={weight: int, other: int}"),
    *("datamodule.weight_by=weight", "datamodule.quantile_weights=[1,2]"),
]
NAMED_LANGUAGES = [*LOCAL, "downloader.source_language=en", "downloader.target_language=de"]
BOTH_WAYS = [*NAMED_LANGUAGES, "datamodule.directions=[en-de,de-en]"]
COMMON = ["filter=none", "tokenizer=byte", "sampler=random", "sampler.batch_size=4", "datamodule.validation=4"]
# Option: the overrides of the run that wrote the checkpoint, the changed override, and the name in the refusal; None
# where the same pairs are served.
Case = tuple[list[str], str, str | None]
CASES: dict[str, Case] = {
    "seed": (LOCAL, "seed=1", "seed"),
    "datamodule.validation": (LOCAL, "datamodule.validation=5", "validation"),
    "datamodule.test": (LOCAL, "datamodule.test=5", "test"),
    "datamodule.held_out_seed": (LOCAL, "datamodule.held_out_seed=1", "held_out.seed"),
    "datamodule.drop_leaks": (LOCAL, "datamodule.drop_leaks=false", "drop_leaks"),
    "datamodule.drop_contaminated": (LOCAL, "datamodule.drop_contaminated=true", "drop_contaminated"),
    "datamodule.share": (LOCAL, "datamodule.share=0.5", "datamodule.share"),
    "datamodule.split_by": (LOCAL, "datamodule.split_by=talk", "split_by"),
    "datamodule.held_out_filter": (
        LOCAL,
        "datamodule.held_out_filter={_target_: mtx.data.filter.default.DefaultFilter}",
        None,
    ),
    "datamodule.weight_by": (WEIGHED, "datamodule.weight_by=other", "weight_by"),
    "datamodule.quantile_weights": (WEIGHED, "datamodule.quantile_weights=[1,3]", "quantile_weights"),
    "datamodule.validation_sets": (LOCAL, "datamodule.validation_sets={x: other.tsv}", "kept_apart"),
    "datamodule.predict_from": (LOCAL, "datamodule.predict_from=a.en", None),
    "datamodule.max_source_tokens": (LOCAL, "datamodule.max_source_tokens=20", "max_source_tokens"),
    "datamodule.max_target_tokens": (LOCAL, "datamodule.max_target_tokens=20", "max_target_tokens"),
    "datamodule.too_long": (LOCAL, "datamodule.too_long=truncate", "too_long"),
    "datamodule.group_by": (
        [*LOCAL, "datamodule.group_by=domain", "datamodule.group_temperature=2"],
        "datamodule.group_by=talk",
        "group_by",
    ),
    "datamodule.group_weights": (GROUPED, "datamodule.group_weights={x: 1, y: 2}", "group_weights"),
    "datamodule.group_temperature": (
        [*LOCAL, "datamodule.group_by=domain", "datamodule.group_temperature=2"],
        "datamodule.group_temperature=3",
        "group_temperature",
    ),
    "datamodule.document_column": (LOCAL, "datamodule.document_column=talk", None),
    "datamodule.eval_max_tokens": (LOCAL, "datamodule.eval_max_tokens=64", None),
    "datamodule.eval_max_bytes": (LOCAL, "datamodule.eval_max_bytes=20", None),
    "datamodule.batch_format": (LOCAL, "datamodule.batch_format=huggingface", None),
    "datamodule.label_pad_id": (LOCAL, "datamodule.label_pad_id=-100", None),
    "datamodule.source_eos": (LOCAL, "datamodule.source_eos=false", "source_eos"),
    "datamodule.directions": (
        NAMED_LANGUAGES,
        "datamodule.directions=[de-en]",
        "downloader",
    ),
    "datamodule.target_tag": (BOTH_WAYS, "datamodule.target_tag='{target}: '", "source_prefix"),
    "datamodule.language_tokens": (
        NAMED_LANGUAGES,
        "datamodule.language_tokens={en: a, de: b}",
        "language_tokens",
    ),
    "datamodule.language_token_position": (
        [*NAMED_LANGUAGES, "datamodule.language_tokens={en: a, de: b}"],
        "datamodule.language_token_position=suffix",
        "language_token_position",
    ),
    "datamodule.template": (
        [*LOCAL, "datamodule.batch_format=causal"],
        "datamodule.template='{src} => {tgt}'",
        "template",
    ),
    "datamodule.stream": (LOCAL, "datamodule.stream=true", "stream"),
    "datamodule.stream_shard_rows": ([*LOCAL, "datamodule.stream=true"], "datamodule.stream_shard_rows=16", "stream"),
    "datamodule.num_workers": (LOCAL, "datamodule.num_workers=0", None),
    "datamodule.pin_memory": (LOCAL, "datamodule.pin_memory=false", None),
    "local/downloader.path": (LOCAL, "downloader.path=other.tsv", "downloader.revision"),
    "local/downloader.source_path": (LINES, "downloader.source_path=b.en", "downloader.revision"),
    "local/downloader.target_path": (LINES, "downloader.target_path=b.de", "downloader.revision"),
    "local/downloader.source_column": (NAMED, "downloader.source_column=talk", "source_column"),
    "local/downloader.target_column": (NAMED, "downloader.target_column=talk", "target_column"),
    "local/downloader.columns": (LOCAL, "downloader.columns=all", "columns"),
    "local/downloader.source_language": (LOCAL, "downloader.source_language=en", "source_language"),
    "local/downloader.target_language": (LOCAL, "downloader.target_language=de", "target_language"),
    "local/downloader.header": (["downloader=local", "downloader.path=paths.tsv"], "downloader.header=false", "header"),
    "local/downloader.keep_fuzzy": (
        ["downloader=local", "downloader.path=fuzzy.po", "downloader.target_language=de"],
        "downloader.keep_fuzzy=true",
        "keep_fuzzy",
    ),
    "local/downloader.on_error": (LOCAL, "downloader.on_error=skip", "on_error"),
    "local/downloader.name": (LOCAL, "downloader.name=other", None),
    "local/downloader.n": (LOCAL, "downloader.n=30", "downloader.source.n"),
    "mixture/downloader.sources": (MIXED, "downloader.sources={a: {path: paths.tsv}, b: {path: a.tsv}}", "sources"),
    "mixture/downloader.weights": (WEIGHTED, "downloader.weights={a: 1, b: 3}", "weights"),
    "mixture/downloader.temperature": ([*MIXED, "downloader.temperature=2"], "downloader.temperature=3", "temperature"),
    "mixture/downloader.epoch_pairs": (WEIGHTED, "downloader.epoch_pairs=30", "epoch_pairs"),
    "mixture/downloader.caps": (MIXED, "downloader.caps={b: 9}", "caps"),
    "mixture/downloader.n": (MIXED, "downloader.n=20", "downloader.options.a.n"),
    "mixture/downloader.languages": (MIXED, "downloader.languages=[en,mul]", None),
    "mixture/downloader.name": (MIXED, "downloader.name=other", None),
    "score": ([*LOCAL, "score=[rules]", "filter=selection"], "score.rules.seed=1", "score.rules.seed"),
}
UNREAD = {"local/downloader.package"}  # the same readers as for a path; needs an installed package


def test_every_option_of_data_is_classified() -> None:
    found = {field.key for field in OPTIONS["datamodule/default"].fields} | {"seed", "score"}
    others = {*SOURCES, "downloader/back_translation"}  # which needs a checkpoint, and has a test of its identity
    for option in (name for name in OPTIONS if name.startswith("downloader/") and name not in others):
        found |= {f"{option.removeprefix('downloader/')}/{field.key}" for field in OPTIONS[option].fields}
    assert set(CASES) | UNREAD == found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    rows = [f"{a}\t{b}\t{'xy'[i % 2]}\t{'uvw'[i % 3]}{i}\t{i}\t{-i}\n" for i, (a, b) in enumerate(TEXTS)]
    (folder / "paths.tsv").write_text("src\ttgt\tdomain\ttalk\tweight\tother\n" + "".join(rows))
    (folder / "other.tsv").write_text(
        "src\ttgt\tdomain\ttalk\tweight\tother\n" + "".join(reversed(rows)).replace("lamp", "light")
    )
    (folder / "a.tsv").write_text("src\ttgt\tdomain\ttalk\tweight\tother\n" + "".join(rows[:20]))
    for name, side in (("a.en", 0), ("a.de", 1), ("b.en", 0), ("b.de", 1)):
        (folder / name).write_text("".join(f"{pair[side]}{name[0]}\n" for pair in TEXTS))
    entries = "".join(f'\n{"#, fuzzy" * (i % 5 == 0)}\nmsgid "{a}"\nmsgstr "{b}"\n' for i, (a, b) in enumerate(TEXTS))
    (folder / "fuzzy.po").write_text(f'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n{entries}')
    return folder


def served(config: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return what a checkpoint says of the data, and the rows of each batch of an epoch in order."""
    datamodule = datamodule_of(config)
    datamodule.prepare_data()
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    if isinstance(loader, ShardStreamLoader):
        loader = loader.first_shard()
    rows = [str(item) for item in loader.batch_sampler]
    return datamodule._prepared_data.batch_identity(datamodule.sampler), rows


KNOWN: dict[str, tuple[Any, list[Any]]] = {}


@pytest.mark.parametrize("option", CASES)
def test_a_changed_option_is_refused_by_its_name_or_serves_the_same_pairs(
    option: str, composed: Composer, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    base, change, name = CASES[option]
    common = [*COMMON, *base]
    if str(common) not in KNOWN:
        KNOWN[str(common)] = served(composed(*common))
    before, pairs = KNOWN[str(common)]
    config, override = composed(*common), OverridesParser.create().parse_override(change)
    *parts, last = override.key_or_group.split(".")
    node(config, parts)[last] = override.value()
    after, other = served(config)
    if name is None:
        check_same_data(before, after)
        assert other == pairs
    else:
        with pytest.raises(ConfigError, match=rf"^the epoch of the checkpoint .*\b{name}\b"):
            check_same_data(before, after)
