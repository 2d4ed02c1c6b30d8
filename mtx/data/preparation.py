"""Runs all stages of data preparation in order, from the source to token ids, and reuses stored datasets.

    downloader → raw → text → scores → split → filtered → tokenizer → encoded
    validation sets, text to translate → raw → text → encoded

The id of each dataset is a hash of its inputs and config. If several processes request a missing dataset, one of them
builds it. Only the stage text changes texts. The stages split and filtered only select rows, so another filter reuses
the encoded datasets.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from mtx.data.concatenated_corpus import NAME_SEPARATOR, Corpus
from mtx.data.dataset import Split
from mtx.data.direction_tags import directed_names
from mtx.data.empty_datasets import check_filtered, check_validation_set
from mtx.data.encoded_texts import LanguageTokenIds, build_encoded, whole_text
from mtx.data.encoding_stage import PairEncoder
from mtx.data.filter.column_rule import weight_column
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.filter.none import NoFilter
from mtx.data.filtering_stage import build_filtered
from mtx.data.language_groups import dataset_languages, part_languages
from mtx.data.normalise import DefaultNormaliser, Normaliser, check_prefix_names
from mtx.data.revision_caching_downloader import revision_caching_downloader
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.score_stage import score_fields
from mtx.data.score.score_table import ScoredCorpus, shown_columns
from mtx.data.score.scorer import Scorer
from mtx.data.score_and_split_stages import build_scores_and_splits, build_text_scores, needs_split
from mtx.data.split import HeldOut
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.data.text_stages import build_part_texts, build_raw, build_raw_parts, build_set_texts
from mtx.data.tokenize.language_tokens import LanguageTokens
from mtx.data.tokenize.tokenization import Tokenization
from mtx.data.tokenize.tokenizer_artifact import get_or_train
from mtx.data.tokenize.word_index import get_or_build_words
from mtx.data.validation_sets import CONFIG_KEY as SETS_KEY
from mtx.data.validation_sets import PREDICT_NAME, named_errors
from mtx.errors import ConfigError
from mtx.infra.dal.row_views import SOURCE_COLUMN
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.sources.translation_directions import Direction


@dataclass(frozen=True)
class Recipe:
    """The components that determine the prepared data, one per stage.

    Attributes:
        downloader: reads the corpus.
        held_out: how many pairs are held out for validation and test.
        filter: drops pairs of the training split.
        tokenizer: converts texts to token ids.
        validation_sets: additional validation sets by name, each the training split of a downloader. They are not
            filtered. With `held_out.drop_leaks`, training pairs with a source sentence of these sets are dropped.
        predict_from: the text to translate, with empty targets; None: no text.
        normalise: changes the texts of the corpus, the validation sets and `predict_from` before all other stages.
        scorers: give columns to all pairs of the source's training split, by name.
        held_out_filter: drops pairs of validation and test. By default it drops none, so that runs with other filters
            are measured on the same pairs.
        share: the share of the filtered training pairs that is trained on, by a hash of the source sentence.
        language_tokens: the tokens before each source and target that name the languages; None: none.
        language_token_position: where batches have these tokens, `prefix` or `suffix`; stored ids begin with them.
    """

    downloader: Downloader
    held_out: HeldOut
    filter: PairFilter
    tokenizer: Tokenization
    validation_sets: Mapping[str, Downloader] = field(default_factory=dict)
    predict_from: Downloader | None = None
    normalise: Normaliser = field(default_factory=DefaultNormaliser)
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    held_out_filter: PairFilter = field(default_factory=NoFilter)
    share: float = 1.0
    language_tokens: LanguageTokens | None = None
    language_token_position: str = "prefix"

    def filter_of(self, split: Split) -> PairFilter:
        """Return the filter of a split."""
        return self.filter if split == "train" else self.held_out_filter


@dataclass(frozen=True)
class StageIds:
    """Ids of all datasets and artifacts of a recipe, by split. Plain strings, so that processes can exchange them.

    Attributes:
        raw: raw datasets by split of the source; for a mixture, by `SOURCE/SPLIT`.
        text: normalised datasets, by the same keys as `raw`.
        split: split datasets (selected row numbers) by split.
        filtered: filtered datasets by split.
        tokenizer: id of the tokenizer.
        encoded: encoded datasets by split, each with all rows of the text from which the split is selected.
        beside_raw: raw datasets of validation sets by name, and of the text to translate as `predict`.
        beside_text: normalised datasets, by the same keys as `beside_raw`.
        beside: encoded datasets, by the same keys as `beside_raw`.
        name: display name of the corpus, as this recipe asks for it; the stored datasets may have another.
        scores: ids of the scores of each scorer, by scorer and text id.
        models: ids of the artifacts of scorers: models of trained ones, columns of those over the whole corpus.
        scoring_s: seconds in which this call scored the corpus, by scorer; a scorer whose scores were stored is absent.
        training_s: seconds in which this call trained a scorer, by scorer.
        words: id of the words of the training split, if its texts are segmented differently in each epoch; else None.
        built: ids of the datasets that were missing and have been built by this call.
    """

    raw: Mapping[str, str]
    text: Mapping[str, str]
    split: Mapping[str, str]
    filtered: Mapping[str, str]
    tokenizer: str
    encoded: Mapping[str, str]
    beside_raw: Mapping[str, str] = field(default_factory=dict)
    beside_text: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    scoring_s: Mapping[str, float] = field(default_factory=dict)
    training_s: Mapping[str, float] = field(default_factory=dict)
    words: str | None = None
    name: str = ""
    built: list[str] = field(default_factory=list)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts of the corpus, in order; a single source has an empty name."""
        return tuple(dict.fromkeys(key.rpartition(NAME_SEPARATOR)[0] for key in self.raw))


def prepare(
    recipe: Recipe, store: Store, runner: StageRunner | None = None, *, weight_by: str | None = None
) -> StageIds:
    """Build all datasets and artifacts of `recipe` that are missing in the store, and return the ids of all of them.

    Args:
        recipe: the components of all stages.
        store: the store.
        runner: builds missing datasets; None: a new one.
        weight_by: the column by which training pairs have weights, which is checked before pairs are scored.

    Raises:
        ConfigError: the held-out splits leave no pair for training, a validation set has the opposite direction, or a
            column does not exist.
        SourceError: the source cannot be read.
        EmptyDatasetError: the training split or a validation set has no pair.
        TokenizerError: the tokenizer cannot be trained, or does not fit the config.
    """
    runner = runner or StageRunner(store)
    with closing(runner), runner.repo.connection():
        return _build_stages(_recipe_with_revision_cache(recipe, store), runner, weight_by)


def _build_stages(recipe: Recipe, runner: StageRunner, weight_by: str | None) -> StageIds:
    repo, built = runner.repo, runner.built
    downloader = recipe.downloader
    info = downloader.info()
    raw, text = _build_raw_and_text(recipe, runner)
    sets_raw = _build_raw_sets(recipe, runner, info)
    beside_raw = {**sets_raw, **_build_raw_to_predict(recipe, runner)}
    beside_text = build_set_texts(recipe.normalise, runner, beside_raw, downloader)
    corpus = Corpus(downloader, info, text, repo, recipe.normalise.part_prefixes)
    _check_columns(recipe, corpus, weight_by)
    sets = [beside_text[name] for name in sets_raw]
    scored, splits = build_scores_and_splits(runner, corpus, recipe.scorers, recipe.held_out, sets)
    filtered: dict[str, str] = {
        split: build_filtered(
            recipe.filter_of(split),
            corpus,
            splits,
            split,
            runner,
            ScoredCorpus(recipe.scorers, scored),
            recipe.share if split == "train" else 1.0,
        )
        for split in splits.ids
    }
    check_filtered({split: repo.manifest(name) for split, name in filtered.items()}, downloader)

    learned_from = filtered["train"] if recipe.tokenizer.train_on == "filtered" else splits.ids["train"]
    tokenizers = get_or_train(recipe.tokenizer, runner, learned_from)
    encode = PairEncoder(tokenizers, runner.store.scratch())
    ids = _language_token_ids(recipe, encode, part_languages(downloader, raw, repo))
    encoded: dict[str, str] = {}
    for split in splits.ids:
        parts = corpus.parts(splits.of_raw(split))
        encoded[split] = build_encoded(runner, parts, encode, ids.of_parts(parts))
    return StageIds(
        raw=raw,
        text=text,
        split=dict(splits.ids.items()),
        filtered=filtered,
        tokenizer=tokenizers.id,
        encoded=encoded,
        beside_raw=beside_raw,
        beside_text=beside_text,
        beside={
            name: build_encoded(
                runner, whole_text(runner, text_id), encode, ids.beside(name, dataset_languages(repo, beside_raw[name]))
            )
            for name, text_id in beside_text.items()
        },
        **score_fields(scored),
        words=get_or_build_words(runner, filtered["train"], tokenizers) if recipe.tokenizer.is_sampled else None,
        name=info.name,
        built=built,
    )


def _language_token_ids(recipe: Recipe, encode: PairEncoder, languages: Sequence[Direction]) -> LanguageTokenIds:
    return LanguageTokenIds(
        recipe.language_tokens,
        encode,
        languages,
        has_tags=bool(recipe.normalise.source_prefix),
        starts=getattr(recipe.tokenizer, "target_starts", ()),
        position=recipe.language_token_position,
    )


def _check_columns(recipe: Recipe, corpus: Corpus, weight_by: str | None = None) -> None:
    """Raise ConfigError if a filter or a weight needs a column, or a part of the mixture, that does not exist."""
    keepers = [keeper for keeper in (recipe.filter, recipe.held_out_filter) if keeper.columns != ()]
    if not keepers and weight_by is None:
        return
    available = [*corpus.columns("train"), *shown_columns(recipe.scorers), *([SOURCE_COLUMN] if corpus.names else [])]
    for keeper in keepers:
        keeper.for_mixture(corpus.names).check_columns(available)
    if weight_by is not None:
        weight_column("datamodule.weight_by", weight_by, available)


@dataclass(frozen=True)
class PreparedScores:
    """A corpus whose pairs are scored, but neither split nor filtered.

    Attributes:
        corpus: the text datasets.
        scored: the ids of the scores by scorer.
        built: ids of the datasets and artifacts that were missing and have been built.
    """

    corpus: Corpus
    scored: Mapping[str, ScoreIds]
    built: list[str]


def prepare_scores(recipe: Recipe, store: Store, runner: StageRunner | None = None) -> PreparedScores:
    """Build the stages up to the scores, and no tokenizer. Raises as `prepare` does."""
    runner = runner or StageRunner(store)
    with closing(runner), runner.repo.connection():
        recipe = _recipe_with_revision_cache(recipe, store)
        _, text = _build_raw_and_text(recipe, runner)
        info = recipe.downloader.info()
        corpus = Corpus(recipe.downloader, info, text, runner.repo, recipe.normalise.part_prefixes)
        if not needs_split(recipe.scorers):
            return PreparedScores(corpus, build_text_scores(runner, corpus, recipe.scorers), runner.built)
        raw = _build_raw_sets(recipe, runner, corpus.info)
        sets = list(build_set_texts(recipe.normalise, runner, raw, recipe.downloader).values())
        scored, _ = build_scores_and_splits(runner, corpus, recipe.scorers, recipe.held_out, sets)
        return PreparedScores(corpus, scored, runner.built)


def _build_raw_and_text(recipe: Recipe, runner: StageRunner) -> tuple[dict[str, str], dict[str, str]]:
    raw = build_raw_parts(recipe.downloader, runner)
    names = [*directed_names(recipe.downloader), *recipe.validation_sets]
    check_prefix_names(recipe.normalise, names, None if recipe.predict_from is None else PREDICT_NAME)
    return raw, build_part_texts(recipe.normalise, runner, raw, recipe.downloader.part_directions)


def _recipe_with_revision_cache(recipe: Recipe, store: Store) -> Recipe:
    """Return the recipe with downloaders that use recorded revisions of remote sources, to save requests."""
    return replace(
        recipe,
        downloader=revision_caching_downloader(recipe.downloader, store),
        validation_sets={
            name: revision_caching_downloader(source, store) for name, source in recipe.validation_sets.items()
        },
        predict_from=None if recipe.predict_from is None else revision_caching_downloader(recipe.predict_from, store),
    )


def _build_raw_to_predict(recipe: Recipe, runner: StageRunner) -> dict[str, str]:
    if recipe.predict_from is None:
        return {}
    return {PREDICT_NAME: build_raw(recipe.predict_from, runner, recipe.predict_from.info(), "train", stored_as="test")}


def _build_raw_sets(recipe: Recipe, runner: StageRunner, corpus: SourceInfo) -> dict[str, str]:
    return {name: _build_raw_set(name, source, runner, corpus) for name, source in recipe.validation_sets.items()}


def _build_raw_set(name: str, source: Downloader, runner: StageRunner, corpus: SourceInfo) -> str:
    """Store the raw dataset of an additional validation set. Raises as `prepare` does."""
    with named_errors(name):
        info = source.info()
        if info.languages == corpus.languages[::-1] != corpus.languages:
            raise ConfigError(
                f"the languages are {' to '.join(info.languages)}, but those of {corpus.name} are "
                f"{' to '.join(corpus.languages)}. Swap the sides with {SETS_KEY}.{name}.source_column and "
                "target_column, or source_language and target_language"
            )
        raw_id = build_raw(source, runner, info, "train", stored_as="validation")
        check_validation_set(runner.repo.manifest(raw_id), name)
    return raw_id
