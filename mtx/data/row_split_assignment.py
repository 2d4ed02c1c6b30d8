"""`TrainingAssignment`: the split of each row of the source's training split, and which rows are contaminated."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from mtx.data.concatenated_corpus import Corpus
from mtx.data.dataset import Split
from mtx.data.normalise import without_prefixes
from mtx.data.row_tasks import Batches, Counts, RowTasks
from mtx.data.score.contaminated_pairs import (
    COMPARING,
    ContaminatedPairs,
    HeldOutSides,
    contaminated_pairs,
    mask_batches,
)
from mtx.data.split import TRAIN, HeldOut, Sides, hash_batches, joined_sides, split_assignment
from mtx.data.split_groups import SplitGroups
from mtx.data.stage_runner import StageRunner


@dataclass(frozen=True)
class TrainingAssignment:
    """The split of each training row, computed once for all splits that have to be built.

    Attributes:
        corpus: the text.
        held_out: how many pairs are held out.
        kept_apart: ids of further held-out texts.
        own: the splits that the source itself provides, without train.
        wanted: the splits that are held out.
        runner: opens datasets, and runs tasks over the rows.
        name: a name that stands for the corpus and all options of the assignment.
        groups: the pairs that stay together; None: pairs with one source sentence.
    """

    corpus: Corpus
    held_out: HeldOut
    kept_apart: list[str]
    own: list[Split]
    wanted: list[Split]
    runner: StageRunner
    name: str
    groups: SplitGroups | None = None

    @cached_property
    def rows(self) -> NDArray[np.uint8]:
        """The split of each row, uint8 [n]; see `split_assignment`."""
        own = self._own_batches()
        if not (self.wanted or own):
            return np.full(self.corpus.num_rows("train"), TRAIN, dtype=np.uint8)
        assigned = partial(
            split_assignment,
            self.corpus.untagged_batches("train"),
            self.held_out,
            wanted=self.wanted,
            own=own,
            hashed=self._hashed_in_tasks if self._is_divided else None,
        )
        if (groups := self.groups) is None:
            return assigned()
        own_groups = [groups.of_own(split) for split in self.own]
        return assigned(groups=groups.of_train(), own_groups=own_groups, noun=groups.noun)

    @cached_property
    def contaminated(self) -> ContaminatedPairs | None:
        """Which training pairs have a held-out source or target; None without held-out pairs."""
        if not (self.wanted or self.own or self.kept_apart):
            return None
        compared = partial(contaminated_pairs, partial(self.corpus.untagged_batches, "train"), self.rows)
        if not self._is_divided:
            return compared(self._own_batches())
        selected = partial(self.corpus.selected_untagged_batches, "train")
        return compared(self._own_batches(), selected=selected, masks_of_all=self._masks_in_tasks)

    @property
    def _is_divided(self) -> bool:
        return self.runner.is_divided(self.corpus.num_rows("train"))

    def _hashed_in_tasks(self) -> Sides:
        return joined_sides(
            self.runner.pass_over(
                self.runner.pass_folder(self.name) / "hashes",
                RowTasks(
                    description="hashing train",
                    num_rows=self.corpus.num_rows("train"),
                    read=self.corpus.untagged_reader("train"),
                    transform=partial(_hashes_of, self.held_out.seed, self.held_out.drop_leaks == "either_side"),
                ),
            )
        )

    def _masks_in_tasks(self, held_out: HeldOutSides) -> Iterator[NDArray[np.bool_]]:
        folder = self.runner.pass_folder(self.name) / "comparison"
        held_out.save(folder)
        outputs = self.runner.pass_over(
            folder,
            RowTasks(
                description=COMPARING,
                num_rows=self.corpus.num_rows("train"),
                read=self.corpus.untagged_reader("train"),
                transform=partial(mask_batches, folder, held_out.compiled),
            ),
        )
        for batch in outputs:
            yield np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns])

    def _own_batches(self) -> list[Batches]:
        own = [self.corpus.untagged_batches(split) for split in self.own]
        apart = [self.runner.repo.get_checked(text_id).rows.batches() for text_id in self.kept_apart]
        return own + [without_prefixes(batches, self.corpus.prefixes) for batches in apart]


def _hashes_of(seed: int, with_targets: bool, batches: Batches, first: int, counts: Counts) -> Batches:
    return hash_batches(batches, seed=seed, with_targets=with_targets)
