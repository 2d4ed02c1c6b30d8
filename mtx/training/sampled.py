"""Training epochs with ids of their own: encoded, measured and planned anew, in the same number of batches each.

Lengths change with the ids, so nothing of one epoch holds for another: what is too long, the batches, and what they
cost are all found from the ids that are served.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from mtx.data.sampled import SampledPairs
from mtx.errors import EmptyDatasetError
from mtx.infra.dataset.collate import BatchFormat, EncodedPairs
from mtx.infra.dataset.plan.base import Draft, Lengths, Plan, Planner
from mtx.infra.dataset.plan.steady import steady_number, with_num_batches
from mtx.training.loader import EncodedBatches

KEPT = 2  # epochs in memory: one that is served, one that is looked at or follows


class Opened(Protocol):
    """Pairs of a split with their lengths in a batch, of which some are too long."""

    pairs: EncodedPairs
    lengths: Lengths
    num_dropped: int

    def draft(self, planner: Planner) -> Draft:
        """Return the planner's work on the lengths."""


Split = TypeVar("Split", bound=Opened)


class SampledEpochs(Draft, Generic[Split]):
    """The epochs of a training split whose texts are cut into other tokens in each.

    An epoch costs encoding all pairs and a draft, when it is first asked for; the two asked for last are kept. `len`
    costs those of epoch 0: all epochs get as many batches as that needs, and a few to spare. Picklable, thread-safe.

    Args:
        pairs: encodes an epoch.
        opened: finds the lengths of encoded pairs, and which are too long.
        planner: forms the batches.
        seed: of the epoch that says how many batches there are.
    """

    def __init__(
        self, pairs: SampledPairs, opened: Callable[[EncodedPairs], Split], planner: Planner, *, seed: int
    ) -> None:
        self._pairs = pairs
        self._opened = opened
        self._planner = planner
        self._seed = seed
        self._num_batches: int | None = None
        self._kept: dict[tuple[int, int], Split] = {}  # by seed and epoch
        self._lock = threading.RLock()

    def __len__(self) -> int:
        with self._lock:
            if self._num_batches is None:
                first = self.split(seed=self._seed, epoch=0)
                needed = len(first.draft(self._planner))
                self._num_batches = steady_number(self._planner, needed, num_excluded=first.num_dropped)
            return self._num_batches

    def split(self, *, seed: int, epoch: int) -> Split:
        """Return the pairs of an epoch, as they are encoded in it, with their lengths."""
        with self._lock:
            asked = seed, epoch
            opened = self._kept.pop(asked, None) or self._opened(self._pairs.epoch(seed=seed, epoch=epoch))
            self._kept[asked] = opened  # the last one, which goes last
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
            return opened

    def lengths(self, epoch: int) -> Lengths:
        """Return the lengths of all pairs in an epoch."""
        return self.split(seed=self._seed, epoch=epoch).lengths

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`, as many as in every other.

        Raises EmptyDatasetError where all pairs are too long in this epoch.
        """
        num_batches = len(self)
        opened = self.split(seed=seed, epoch=epoch)
        plan = opened.draft(self._planner).plan(seed=seed, epoch=epoch)
        if num_batches and not len(plan):
            raise EmptyDatasetError(
                f"epoch {epoch} has no batch: as its texts were cut, each of the {len(opened.pairs):,} pairs is too "
                "long. Raise datamodule.max_source_tokens and datamodule.max_target_tokens or sampler.max_tokens, or "
                "sample less, with a lower tokenizer.dropout or a higher tokenizer.alpha"
            )
        return with_num_batches(plan, num_batches, multiple=getattr(self._planner, "batch_multiple", 1))

    def edges(self, *, seed: int, epoch: int) -> Mapping[str, Sequence[int]]:
        """Return where lengths are cut in `epoch`; each has its own."""
        return self.split(seed=seed, epoch=epoch).draft(self._planner).edges(seed=seed, epoch=epoch)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()


class SampledBatches(EncodedBatches):
    """Batches that each epoch makes from its own ids.

    Args:
        pairs: the pairs as they are encoded without sampling.
        batch_format: how a batch looks.
        epochs: the pairs as they are encoded in each epoch.
        seed: of the epochs.
    """

    def __init__(
        self, pairs: EncodedPairs, batch_format: BatchFormat, epochs: SampledEpochs[Any], *, seed: int
    ) -> None:
        super().__init__(pairs, batch_format)
        self._epochs = epochs
        self._seed = seed

    def of_epoch(self, epoch: int) -> EncodedBatches:
        """Return the batches of one epoch, from its own ids."""
        return EncodedBatches(self._epochs.split(seed=self._seed, epoch=epoch).pairs, self.batch_format)
