"""Choose the pairs on which a checkpoint is evaluated: held-out pairs of its own corpus, or the text of another source.

A source that the checkpoint was trained on gives its held-out split, so that no pair of the training is evaluated.
Another source gives its test split if it has one, else all its pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from mtx.components.identity import plain_value
from mtx.data.concatenated_corpus import Corpus, part_key
from mtx.data.dataset import Split
from mtx.data.preparation import Recipe
from mtx.data.revision_caching_downloader import revision_caching_downloader
from mtx.data.score_and_split_stages import build_scores_and_splits
from mtx.data.stage_runner import StageRunner
from mtx.data.text_stages import build_raw, build_raw_parts, build_text
from mtx.data.validation_sets import named_errors
from mtx.errors import ConfigError, EmptyDatasetError
from mtx.infra.dataset.download import Downloader

SplitChoice = Literal["auto", "train", "validation", "test"]
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
    recipe: Recipe, runner: StageRunner, *, trained_on: Mapping[str, Any], split: SplitChoice = "auto"
) -> dict[str, EvaluationText]:
    """Return the pairs of the corpus and of each validation set of a recipe, by name.

    Args:
        recipe: the downloader, the held-out pairs and the validation sets; other parts are not used.
        runner: stores what is read.
        trained_on: the identity of the corpus of the checkpoint, as its data module stores it.
        split: the split of the corpus; `auto` chooses it as the module describes.

    Raises:
        ConfigError: the held-out pairs differ from those of the training, or the split does not exist.
        EmptyDatasetError: a set has no pairs.
    """
    store = runner.store
    with runner.repo.connection():
        found = _corpus_texts(recipe, runner, trained_on, split)
        for name, source in recipe.validation_sets.items():
            cached = revision_caching_downloader(source, store)
            with named_errors(name):
                raw_id = build_raw(cached, runner, cached.info(), "train", stored_as="validation")
            found[name] = _text_of(runner, raw_id, is_of_training=False)
    for name, text in found.items():
        if not text.sources:
            raise EmptyDatasetError(
                f"the evaluation set {name} has no pairs. Choose another downloader or another file"
            )
    return found


def _corpus_texts(
    recipe: Recipe, runner: StageRunner, trained_on: Mapping[str, Any], split: SplitChoice
) -> dict[str, EvaluationText]:
    downloader = revision_caching_downloader(recipe.downloader, runner.store)
    raw = build_raw_parts(downloader, runner)
    if _is_same_corpus(downloader, raw, runner, trained_on):
        return _held_out_texts(recipe, downloader, raw, runner, trained_on, split)
    found = {}
    for name in downloader.parts:
        of_part = [one for one in ("test", "validation", "train") if part_key(name, one) in raw]
        chosen = of_part[0] if split == "auto" else split
        if chosen not in of_part:
            raise ConfigError(
                f"task.split={split} does not exist in this source, which has {', '.join(of_part)}. Set "
                f"task.split={of_part[0]}"
            )
        raw_id = raw[part_key(name, cast(Split, chosen))]
        found[name or runner.repo.manifest(raw_id).name] = _text_of(runner, raw_id, is_of_training=False)
    return found


def _is_same_corpus(
    downloader: Downloader, raw: Mapping[str, str], runner: StageRunner, trained_on: Mapping[str, Any]
) -> bool:
    """Return whether a source is the corpus of a training, by the revision of each of its parts."""
    stored = trained_on.get("downloader")
    if not isinstance(stored, Mapping):
        return False
    names = [name for name in downloader.parts if part_key(name, "train") in raw]
    revisions = {name: runner.repo.manifest(raw[part_key(name, "train")]).provenance.get("revision") for name in names}
    if isinstance(stored.get("sources"), Mapping):
        return bool(revisions) and revisions == stored["sources"]
    return len(revisions) == 1 and stored.get("revision") in revisions.values()


def _held_out_texts(
    recipe: Recipe,
    downloader: Downloader,
    raw: Mapping[str, str],
    runner: StageRunner,
    trained_on: Mapping[str, Any],
    split: SplitChoice,
) -> dict[str, EvaluationText]:
    """Return the held-out pairs of the corpus that the checkpoint was trained on."""
    ours, theirs = recipe.held_out.described(), trained_on.get("held_out")
    theirs = theirs if isinstance(theirs, Mapping) else {}
    different = [name for name in DECISIVE if plain_value(ours.get(name)) != theirs.get(name)]
    if different:
        keys = {"seed": "held_out_seed"}
        typed = " ".join(f"datamodule.{keys.get(name, name)}={theirs.get(name)}" for name in different)
        raise ConfigError(
            "the checkpoint was trained on this corpus, but other pairs were held out, so training pairs would be "
            f"evaluated. Type the settings of the training: {typed.replace('=None', '=null')}"
        )
    text = {key: build_text(recipe.normalise, runner, raw_id) for key, raw_id in raw.items()}
    corpus = Corpus(downloader, downloader.info(), text, runner.repo)
    _, splits = build_scores_and_splits(runner, corpus, {}, recipe.held_out, [])
    available = [one for one in ("test", "validation", "train") if one in splits.ids]
    chosen = available[0] if split == "auto" else split
    if chosen not in available:
        raise ConfigError(f"task.split={split} does not exist. Set task.split={available[0]}")
    return {chosen: _text_of(runner, splits.ids[cast(Split, chosen)], is_of_training=True)}


def _text_of(runner: StageRunner, dataset_id: str, *, is_of_training: bool) -> EvaluationText:
    dataset = runner.repo.get_checked(dataset_id)
    sources: list[str] = []
    references: list[str] = []
    for batch in dataset.rows.batches():
        sources += batch.column("src").to_pylist()
        references += batch.column("tgt").to_pylist()
    return EvaluationText(sources, references, dataset.languages, is_of_training, dataset.split)
