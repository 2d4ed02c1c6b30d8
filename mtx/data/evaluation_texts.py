"""Choose the pairs on which a checkpoint is evaluated: held-out pairs of its own corpus, or the text of another source.

A source that the checkpoint was trained on gives its held-out split, so that no pair of the training is evaluated.
Another source gives its test split, else its validation split, else all its pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Literal, cast

from mtx.components.identity import identity, plain_value
from mtx.data.concatenated_corpus import Corpus, part_key, source_identity
from mtx.data.dataset import Split
from mtx.data.language_groups import LanguageGroup, language_groups
from mtx.data.preparation import Recipe
from mtx.data.revision_caching_downloader import revision_caching_downloader
from mtx.data.score_and_split_stages import build_scores_and_splits
from mtx.data.split import CLUSTER_GROUPS
from mtx.data.split_groups import cluster_scorer
from mtx.data.stage_runner import StageRunner
from mtx.data.text_stages import build_part_texts, build_raw, build_raw_parts
from mtx.data.validation_sets import named_errors
from mtx.errors import ConfigError, EmptyDatasetError
from mtx.infra.dal.row_views import SOURCE_COLUMN
from mtx.infra.dataset.download import Downloader

SplitChoice = Literal["auto", "train", "validation", "test"]
SOURCE_KEYS = ("revision", "source", "sources", "options", "caps")  # of a stored source: what decides its pairs
DECISIVE = ("validation", "test", "seed", "split_by")  # options that decide which pairs are held out


@dataclass(frozen=True)
class EvaluationText:
    """Pairs to evaluate on.

    Attributes:
        sources: source texts.
        references: the translation of each source.
        languages: codes of source and target language.
        is_of_training: whether the pairs are held out from the corpus of the checkpoint.
        split: the split of the source from which they come.
    """

    sources: list[str]
    references: list[str]
    languages: tuple[str, str]
    is_of_training: bool
    split: str


def evaluation_texts(
    recipe: Recipe, runner: StageRunner, *, trained_on: Sequence[Mapping[str, Any]], split: SplitChoice = "auto"
) -> dict[str, EvaluationText]:
    """Return the pairs of the corpus and of each validation set of a recipe, by name.

    Args:
        recipe: the downloader, the held-out pairs, their scorers and the validation sets; other parts are not used.
        runner: stores what is read.
        trained_on: the identity of the corpus of each checkpoint, as its data module stores it.
        split: the split of the corpus; `auto` chooses it as the module describes.

    Raises:
        ConfigError: the pairs would contain training pairs of a checkpoint, or the split does not exist.
        EmptyDatasetError: a set has no pairs.
    """
    store = runner.store
    with runner.repo.connection():
        found = _corpus_texts(recipe, runner, trained_on, split)
        for name, source in recipe.validation_sets.items():
            if name in found:
                raise ConfigError(f"two evaluation sets are named {name}. Rename that of datamodule.validation_sets")
            cached = revision_caching_downloader(source, store)
            with named_errors(name):
                raw_id = build_raw(cached, runner, cached.info(), "train", stored_as="validation")
            _check_overlap(runner, raw_id, "train", name, trained_on)
            found[name] = _text_of(runner, raw_id, is_of_training=False)
    for name, text in found.items():
        if not text.sources:
            raise EmptyDatasetError(
                f"the evaluation set {name} has no pairs. Choose another downloader or another file"
            )
    return found


def _corpus_texts(
    recipe: Recipe, runner: StageRunner, trained_on: Sequence[Mapping[str, Any]], split: SplitChoice
) -> dict[str, EvaluationText]:
    downloader = revision_caching_downloader(recipe.downloader, runner.store)
    raw = build_raw_parts(downloader, runner)
    source = _decisive(source_identity(downloader, raw, runner.repo))
    of_source = [source == _decisive(one.get("downloader")) for one in trained_on]
    if any(of_source):
        others = [one for one, is_same in zip(trained_on, of_source, strict=True) if not is_same]
        chosen, texts = _held_out_texts(recipe, downloader, raw, runner, list(compress(trained_on, of_source)), split)
        if chosen != "train":  # which is evaluated only if it is asked for
            _check_other_trainings(recipe, raw, runner, others, chosen)
        return texts
    found: dict[str, EvaluationText] = {}
    for name in downloader.parts:
        of_part = [one for one in ("test", "validation", "train") if part_key(name, one) in raw]
        chosen = of_part[0] if split == "auto" else split
        if chosen not in of_part:
            raise ConfigError(
                f"task.split={split} does not exist in this source, which has {', '.join(of_part)}. Set "
                f"task.split={of_part[0]}"
            )
        raw_id = raw[part_key(name, cast(Split, chosen))]
        set_name = name or runner.repo.manifest(raw_id).name
        _check_overlap(runner, raw_id, chosen, set_name, trained_on)
        found[set_name] = _text_of(runner, raw_id, is_of_training=False)
    return found


def _decisive(source: object) -> dict[str, Any]:
    """Return what decides the pairs of a source that a checkpoint describes: its revision, its options and its caps."""
    return (
        {key: plain_value(source[key]) for key in SOURCE_KEYS if key in source} if isinstance(source, Mapping) else {}
    )


def _check_overlap(
    runner: StageRunner, raw_id: str, split: str, name: str, trained_on: Sequence[Mapping[str, Any]]
) -> None:
    """Raise ConfigError if a set has a file, or the training split of a revision, on which a checkpoint was trained."""
    own = runner.repo.manifest(raw_id).provenance
    files = _file_digests(own.get("source"), split)
    for training in trained_on:
        stored = _decisive(training.get("downloader"))
        pairs = zip(_values(stored, "sources", "revision"), _values(stored, "options", "source"), strict=False)
        for revision, options in pairs:
            is_same = (
                split == "train" and revision == own.get("revision") and _config(options) == _config(own["source"])
            )
            if is_same or files & _file_digests(options, "train"):
                raise ConfigError(
                    f"the set {name} contains pairs on which a checkpoint was trained. Type the downloader options of "
                    "the training and its datamodule.directions, whose held-out pairs are then evaluated, or choose "
                    "other files"
                )


def _values(stored: Mapping[str, Any], of_mixture: str, of_one: str) -> list[Any]:
    several = stored.get(of_mixture)
    return list(several.values()) if isinstance(several, Mapping) else [stored.get(of_one)]


def _config(options: object) -> object:
    """Return the part of a remote dataset; its parts have one revision."""
    return options.get("config") if isinstance(options, Mapping) else None


def _file_digests(options: object, split: str) -> set[str]:
    """Return the digests of the files of a split, as the options of a source of files contain them."""
    files = options.get("files") if isinstance(options, Mapping) else None
    of_split = files.get(split) if isinstance(files, Mapping) else None
    entries = of_split if isinstance(of_split, list) else []
    return {str(each["sha256"]) for each in entries if isinstance(each, Mapping) and "sha256" in each}


def _held_out_texts(
    recipe: Recipe,
    downloader: Downloader,
    raw: Mapping[str, str],
    runner: StageRunner,
    trained_on: Sequence[Mapping[str, Any]],
    split: SplitChoice,
) -> tuple[str, dict[str, EvaluationText]]:
    """Return the held-out split of the corpus that checkpoints were trained on, and its pairs by set.

    The sets are those of each direction, such as `test-en-de`, if the corpus has several languages or tags.
    """
    for training in trained_on:
        _check_held_out(recipe, training)
    text = build_part_texts(recipe.normalise, runner, raw, downloader.part_directions)
    corpus = Corpus(downloader, downloader.info(), text, runner.repo, recipe.normalise.part_prefixes)
    scorers = {}
    if recipe.held_out.by == CLUSTER_GROUPS:
        name, scorer = cluster_scorer(recipe.scorers)
        scorers[name] = scorer
    _, splits = build_scores_and_splits(runner, corpus, scorers, recipe.held_out, [])
    available = [one for one in ("test", "validation", "train") if one in splits.ids]
    chosen = available[0] if split == "auto" else split
    if chosen not in available:
        raise ConfigError(f"task.split={split} does not exist. Set task.split={available[0]}")
    if splits.of_raw(cast(Split, chosen)) == "train" and any(
        plain_value(identity(recipe.normalise)) != plain_value(training.get("normalise")) for training in trained_on
    ):
        raise ConfigError(
            "the held-out pairs are chosen by their normalised texts, but a checkpoint was trained with another "
            "normalise, so training pairs would be evaluated. Leave normalise out, or type that of the training"
        )
    groups = language_groups(downloader, raw, runner.repo, recipe.normalise)
    return chosen, _texts_of_groups(runner, splits.ids[cast(Split, chosen)], groups)


def _texts_of_groups(runner: StageRunner, split_id: str, groups: list[LanguageGroup]) -> dict[str, EvaluationText]:
    """Return the held-out pairs of each group by `SPLIT-GROUP`; all pairs by the name of the split without groups."""
    whole = _text_of(runner, split_id, is_of_training=True)
    if not groups:
        return {whole.split: whole}
    sources = runner.repo.get_checked(split_id).rows.column(SOURCE_COLUMN).to_numpy()
    found = {}
    for group in groups:
        chosen = group.has(sources)
        if chosen.any():
            found[f"{whole.split}-{group.name}"] = replace(
                whole,
                sources=list(compress(whole.sources, chosen)),
                references=list(compress(whole.references, chosen)),
                languages=group.languages,
            )
    return found


def _check_other_trainings(
    recipe: Recipe, raw: Mapping[str, str], runner: StageRunner, others: Sequence[Mapping[str, Any]], split: str
) -> None:
    """Raise ConfigError if held-out pairs of one training are training pairs of another on a part of its source.

    By fractions, each sentence is held out by its own hash, so trainings with equal settings hold out the same ones.
    """
    sizes, is_own = (recipe.held_out.validation, recipe.held_out.test), any(key.endswith(split) for key in raw)
    is_by_hash = recipe.held_out.by is None and not any(isinstance(size, int) and size for size in sizes)
    held_out, normalise = _decisive_held_out(recipe.held_out.described()), plain_value(identity(recipe.normalise))
    for training in others:
        is_alike = held_out == _decisive_held_out(training.get("held_out")) and normalise == training.get("normalise")
        if is_own or not (is_by_hash and is_alike):
            used = split if is_own else "train"
            for key, raw_id in raw.items():
                if key.endswith(used):
                    _check_overlap(runner, raw_id, used, split, [training])


def _decisive_held_out(described: object) -> dict[str, Any]:
    """Return the settings that decide which pairs are held out."""
    given = described if isinstance(described, Mapping) else {}
    return {name: plain_value(given.get(name)) for name in DECISIVE}


def _check_held_out(recipe: Recipe, trained_on: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the settings that decide the held-out pairs are those of a training."""
    ours, theirs = (_decisive_held_out(each) for each in (recipe.held_out.described(), trained_on.get("held_out")))
    different = [name for name in DECISIVE if ours[name] != theirs[name]]
    if different:
        keys = {"seed": "held_out_seed"}
        typed = " ".join(f"datamodule.{keys.get(name, name)}={theirs[name]}" for name in different)
        raise ConfigError(
            "the checkpoint was trained on this corpus, but other pairs were held out, so training pairs would be "
            f"evaluated. Type the settings of the training: {typed.replace('=None', '=null')}"
        )
    if recipe.held_out.by != CLUSTER_GROUPS:
        return
    scored = trained_on.get("score")
    default = identity(cluster_scorer({})[1])
    stored = [plain_value(each) for each in scored.values()] if isinstance(scored, Mapping) else []
    clusters = [each for each in stored if isinstance(each, dict) and each.get("kind") == default["kind"]]
    if identity(cluster_scorer(recipe.scorers)[1]) != next(iter(clusters), default):
        raise ConfigError(
            "the checkpoint was trained on this corpus with other clusters of datamodule.split_by=cluster, so training "
            "pairs would be evaluated. Type the score=near_duplicates options of the training, too"
        )


def _text_of(runner: StageRunner, dataset_id: str, *, is_of_training: bool) -> EvaluationText:
    dataset = runner.repo.get_checked(dataset_id)
    sources: list[str] = []
    references: list[str] = []
    for batch in dataset.rows.batches():
        sources += batch.column("src").to_pylist()
        references += batch.column("tgt").to_pylist()
    return EvaluationText(sources, references, dataset.languages, is_of_training, dataset.split)
