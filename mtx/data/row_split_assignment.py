"""`TrainingAssignment`: the split of each row of the source's training split, and which rows are contaminated."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mtx.data.concatenated_corpus import Corpus
from mtx.data.dataset import Split
from mtx.data.normalise import without_prefixes
from mtx.data.score.contaminated_pairs import ContaminatedPairs, contaminated_pairs
from mtx.data.split import TRAIN, HeldOut, split_assignment
from mtx.data.split_groups import SplitGroups
from mtx.data.stage_runner import Batches, StageRunner


@dataclass(frozen=True)
class TrainingAssignment:
    """The split of each training row, computed once for all splits that have to be built.

    Attributes:
        corpus: the text.
        held_out: how many pairs are held out.
        kept_apart: ids of further held-out texts.
        own: the splits that the source itself provides, without train.
        wanted: the splits that are held out.
        runner: opens datasets.
        groups: the pairs that stay together; None: pairs with one source sentence.
    """

    corpus: Corpus
    held_out: HeldOut
    kept_apart: list[str]
    own: list[Split]
    wanted: list[Split]
    runner: StageRunner
    groups: SplitGroups | None = None

    @cached_property
    def rows(self) -> NDArray[np.uint8]:
        """The split of each row, uint8 [n]; see `split_assignment`."""
        own = self._own_batches()
        if not (self.wanted or own):
            return np.full(self.corpus.num_rows("train"), TRAIN, dtype=np.uint8)
        pairs, groups = self.corpus.untagged_batches("train"), self.groups
        if groups is None:
            return split_assignment(pairs, self.held_out, wanted=self.wanted, own=own)
        return split_assignment(
            pairs,
            self.held_out,
            wanted=self.wanted,
            own=own,
            groups=groups.of_train(),
            own_groups=[groups.of_own(split) for split in self.own],
            noun=groups.noun,
        )

    @cached_property
    def contaminated(self) -> ContaminatedPairs | None:
        """Which training pairs have a held-out source or target; None without held-out pairs."""
        if not (self.wanted or self.own or self.kept_apart):
            return None
        return contaminated_pairs(lambda: self.corpus.untagged_batches("train"), self.rows, self._own_batches())

    def _own_batches(self) -> list[Batches]:
        own = [self.corpus.untagged_batches(split) for split in self.own]
        apart = [self.runner.repo.get_checked(text_id).rows.batches() for text_id in self.kept_apart]
        return own + [without_prefixes(batches, self.corpus.prefixes) for batches in apart]
