"""Training epochs with subword sampling: each epoch has other token ids, and therefore other lengths and another plan.

All epochs have the same number of batches. For each epoch, the pairs that are too long, the plan and the padding are
computed from the token ids of that epoch.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch
from mtx.batches.plan.constant_epoch_length import constant_num_batches, plan_with_num_batches
from mtx.batches.plan.planner import Draft, Lengths, Plan, Planner
from mtx.batches.plan.rank_assignment import Item
from mtx.data.sampled_encoding import SampledPairs
from mtx.data.token_rows import EncodedPairs
from mtx.errors import ConfigError, EmptyDatasetError
from mtx.training.loader import EncodedBatches

log = logging.getLogger(__name__)

MAX_KEPT_EPOCHS = 2  # epochs in memory: the current epoch, and the next epoch or one that a report reads


class SplitWithLengths(Protocol):
    """Pairs of a split with their lengths in a batch, and the number of pairs that are too long."""

    pairs: EncodedPairs
    lengths: Lengths
    num_dropped: int

    def draft(self, planner: Planner) -> Draft:
        """Return the planner's draft for the lengths of the pairs."""


Split = TypeVar("Split", bound=SplitWithLengths)


class SampledEpochs(Draft, Generic[Split]):
    """Epochs of a training split with subword sampling: the texts are split into other tokens in each epoch.

    The first access to an epoch encodes all pairs and drafts a plan; the two epochs used last are kept in memory. `len`
    encodes epoch 0: all epochs get the number of batches that epoch 0 needs, plus a few spare batches. Picklable,
    thread-safe.

    Args:
        pairs: encodes all pairs for an epoch.
        opened: computes the lengths of encoded pairs, and which pairs are too long.
        planner: forms the batches.
        seed: seed of the epoch 0 that decides the number of batches.
    """

    def __init__(
        self, pairs: SampledPairs, opened: Callable[[EncodedPairs], Split], planner: Planner, *, seed: int
    ) -> None:
        self._pairs = pairs
        self._opened = opened
        self._planner = planner
        self._seed = seed
        self._num_batches: int | None = None
        self._has_warned = False
        self._kept: dict[tuple[int, int], Split] = {}  # by seed and epoch
        self._lock = threading.RLock()

    def __len__(self) -> int:
        with self._lock:
            if self._num_batches is None:
                first = self.split(seed=self._seed, epoch=0)
                needed = len(first.draft(self._planner))
                self._num_batches = constant_num_batches(self._planner, needed, num_excluded=first.num_dropped)
            return self._num_batches

    def split(self, *, seed: int, epoch: int) -> Split:
        """Return the pairs of an epoch with their lengths, encoded with the token ids of that epoch."""
        with self._lock:
            asked = seed, epoch
            opened = self._kept.pop(asked, None) or self._opened(self._pairs.epoch(seed=seed, epoch=epoch))
            self._kept[asked] = opened  # inserted at the end, because the first entry is removed first
            while len(self._kept) > MAX_KEPT_EPOCHS:
                del self._kept[next(iter(self._kept))]
            return opened

    def lengths(self, epoch: int) -> Lengths:
        """Return the lengths of all pairs in an epoch."""
        return self.split(seed=self._seed, epoch=epoch).lengths

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the plan of an epoch, which has the same number of batches as every other epoch.

        Raises EmptyDatasetError if all pairs are too long in this epoch.
        """
        num_batches = len(self)
        opened = self.split(seed=seed, epoch=epoch)
        plan = opened.draft(self._planner).plan(seed=seed, epoch=epoch)
        self._warn_of_lost_pairs(epoch, len(plan.dropped_length) - opened.num_dropped)
        if num_batches and not len(plan):
            raise EmptyDatasetError(
                f"epoch {epoch} has no batch: with the subwords sampled for this epoch, each of the "
                f"{len(opened.pairs):,} pairs is too long. Raise datamodule.max_source_tokens and "
                "datamodule.max_target_tokens, or sampler.max_tokens, or sample fewer splits with a lower "
                "tokenizer.dropout or a higher tokenizer.alpha"
            )
        return plan_with_num_batches(plan, num_batches, multiple=getattr(self._planner, "batch_multiple", 1))

    def _warn_of_lost_pairs(self, epoch: int, num_lost: int) -> None:
        """Warn once of pairs that exceed a limit only as sampled, if the planner refuses such pairs before training."""
        if num_lost > 0 and hasattr(self._planner, "check_lengths") and not self._has_warned:
            self._has_warned = True
            log.warning(
                "with the subwords sampled for epoch %d, %d pairs are too long for a batch, and the epoch goes without "
                "them. Later epochs say no more; the ledger counts such pairs as dropped_length",
                epoch,
                num_lost,
            )

    def edges(self, *, seed: int, epoch: int) -> Mapping[str, Sequence[int]]:
        """Return the length edges at which batches are cut in an epoch; the edges differ between epochs."""
        return self.split(seed=seed, epoch=epoch).draft(self._planner).edges(seed=seed, epoch=epoch)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()


class SampledBatches(EncodedBatches):
    """Dataset of batches whose token ids differ in each epoch, because subwords are sampled.

    Args:
        pairs: the pairs, encoded without subword sampling.
        batch_format: the format of a batch.
        epochs: the pairs as they are encoded in each epoch.
        seed: seed of the subword sampling.
    """

    def __init__(
        self, pairs: EncodedPairs, batch_format: BatchFormat, epochs: SampledEpochs[Any], *, seed: int
    ) -> None:
        super().__init__(pairs, batch_format)
        self._epochs = epochs
        self._seed = seed

    def build_batches(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        """Refuse: this dataset does not know the epoch, so its batches would always have the same tokens."""
        raise ConfigError(
            "with subword sampling, each epoch has other token ids, which only the loader of dm.train_dataloader() "
            "serves: not a DataLoader made from its dataset, as skip_first_batches of accelerate makes one. Iterate "
            "over the loader itself, or set tokenizer.dropout=0 or tokenizer.alpha=null"
        )

    def of_epoch(self, epoch: int) -> EncodedBatches:
        """Return the dataset of batches of one epoch, with the token ids sampled for that epoch."""
        return EncodedBatches(self._epochs.split(seed=self._seed, epoch=epoch).pairs, self.batch_format)
