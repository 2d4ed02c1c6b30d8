"""Runs the stages of a shard after the first: raw → text → scores → split → filtered → encoded, as for a whole corpus.

`preparation.prepare` builds shard 0, from which pairs are held out. Later shards have only training pairs, from which
the sentences of the held-out pairs are dropped. Each stage is stored under an id of its own, so another run reuses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mtx.data.concatenated_corpus import Corpus
from mtx.data.encoded_texts import build_encoded
from mtx.data.encoding_stage import PairEncoder
from mtx.data.filtering_stage import build_filtered
from mtx.data.preparation import Recipe, StageIds
from mtx.data.score.score_table import ScoredCorpus
from mtx.data.score_and_split_stages import build_text_scores
from mtx.data.source_shards import SourceShards
from mtx.data.splitting_stage import build_splits
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.data.text_stages import build_raw, build_text, raw_dataset_id
from mtx.data.tokenize.language_tokens import LeadingIds, leading_ids
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.errors import SourceError


@dataclass(frozen=True)
class ShardIds:
    """The ids of the stored datasets of a shard.

    Attributes:
        number: number of the shard, from 0.
        raw: the raw dataset.
        filtered: the filtered dataset of the training pairs.
        encoded: the encoded dataset.
        held_out: the filtered datasets of pairs that are held out from this shard.
    """

    number: int
    raw: str
    filtered: str
    encoded: str
    held_out: tuple[str, ...] = ()


class ShardStages:
    """Builds the datasets of shards that the store lacks.

    Args:
        recipe: the settings of all stages; its downloader is shard 0.
        store: the store.
        shards: reads the source.
        first: the ids of the stages of shard 0.
        tokenizers: the tokenizers of both sides.
    """

    def __init__(
        self, recipe: Recipe, store: Store, shards: SourceShards, first: StageIds, tokenizers: TokenizerPair
    ) -> None:
        self._recipe = recipe
        self._store = store
        self.shards = shards
        self._first = first
        self.tokenizers = tokenizers
        self._encode = PairEncoder(tokenizers, Path(store.scratch()))
        self._is_checked = False

    def build(self, number: int) -> ShardIds | None:
        """Return the ids of a shard, after building its missing datasets; None if the source has no such shard.

        Raises SourceError if the source cannot be read or has changed, else as `preparation.prepare` does.
        """
        self._check_source()
        if number == 0:
            first = self._first
            cut = tuple(of for split, of in first.filtered.items() if split != "train" and self._is_cut(split))
            return ShardIds(0, first.raw["train"], first.filtered["train"], first.encoded["train"], cut)
        runner = StageRunner(self._store, tells_former=False)  # the preparation of shard 0 has told
        shard = self.shards.shard(number)
        info = shard.info()
        raw_id = build_raw(shard, runner, info, "train")
        if not len(runner.repo.manifest(raw_id)):
            return None
        recipe = self._recipe
        text_id = build_text(recipe.normalise.for_part(""), runner, raw_id)
        corpus = Corpus(shard, info, {"train": text_id}, runner.repo, recipe.normalise.part_prefixes)
        scored = build_text_scores(runner, corpus, recipe.scorers)
        held_out = replace(recipe.held_out, validation=None, test=None)
        splits = build_splits(corpus, held_out, self._kept_apart(), runner)
        filtered = build_filtered(
            recipe.filter, corpus, splits, "train", runner, ScoredCorpus(recipe.scorers, scored), recipe.share
        )
        encoded = build_encoded(runner, corpus.parts("train"), self._encode, self._leading(info.languages))
        return ShardIds(number, raw_id, filtered, encoded)

    def _check_source(self) -> None:
        """Raise SourceError if shard 0 was built from another state of the source."""
        if not self._is_checked:
            now = raw_dataset_id(self.shards.shard(0), self.shards.shard(0).info(), "train")
            if now != (was := self._first.raw["train"]):
                raise SourceError(
                    f"the source {self.shards.info.name} has changed since its first shard was stored: that is {was}, "
                    f"and would now be {now}. Start the run again when the source is complete"
                )
            self._is_checked = True

    def _is_cut(self, split: str) -> bool:
        """Return whether a split is held out from shard 0, and not a split of the source itself."""
        return split not in self._first.raw

    def _kept_apart(self) -> list[str]:
        held_out = self._recipe.held_out
        if not (held_out.drop_leaks or held_out.drop_contaminated):
            return []
        splits: Mapping[str, str] = self._first.split
        own = [of for split, of in splits.items() if split != "train"]
        return [*own, *(self._first.beside_text[name] for name in self._recipe.validation_sets)]

    def _leading(self, languages: tuple[str, str]) -> list[LeadingIds]:
        given = self._recipe.language_tokens
        return [] if given is None else [leading_ids(given, languages, self._encode.tokenizers)]
