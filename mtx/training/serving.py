"""From a split to its loader: the rank's share of a planner's batches, or why there is nothing to serve."""

from dataclasses import dataclass

from mtx.data.sets import PREDICT
from mtx.errors import EmptyDatasetError
from mtx.infra.dataset.plan.base import Planner
from mtx.training.budget import num_units
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader
from mtx.training.predict import RowsForWriters
from mtx.training.sampled import SampledBatches, SampledEpochs
from mtx.training.split import OpenSplit, SourceBatches

HELD_OUT = ("validation", "test")  # splits whose size a config says


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What all loaders of a run have in common.

    Attributes:
        seed: of the order of training.
        rank: this process's place.
        world_size: number of processes.
        frozen: every epoch has the batches of the first one.
        num_workers: threads that build batches ahead.
        pin_memory: put batches into pinned memory.
    """

    seed: int
    rank: int
    world_size: int
    frozen: bool
    num_workers: int
    pin_memory: bool

    def loader(
        self,
        name: str,
        split: OpenSplit,
        planner: Planner,
        *,
        sampled: SampledEpochs[OpenSplit] | None = None,
        for_writers: bool = False,
    ) -> PlanLoader:
        """Return the loader of a split.

        Args:
            name: of the split; all but `train` are served without losing a row to equal steps of the ranks.
            split: the pairs.
            planner: forms the batches.
            sampled: the epochs of a split whose texts are cut into other tokens in each.
            for_writers: let Lightning tell its prediction writers the rows of each batch.

        Raises EmptyDatasetError where nothing is left to serve, or less than a pair for each rank.
        """
        if len(split.pairs) == split.num_dropped:
            raise EmptyDatasetError(self._why_empty(name, split))
        draft = split.draft(planner) if sampled is None else sampled
        if not len(draft):
            raise EmptyDatasetError(
                f"the sampler makes no batch of the {len(split.pairs):,} pairs of the {name} split: they are fewer "
                "than a batch, or each is above its budget. Set sampler.drop_last=false, a smaller "
                "sampler.batch_size, or a larger sampler.max_tokens"
            )
        batches = (RowsForWriters if for_writers else EpochBatches)(
            draft,
            seed=self.seed,
            rank=self.rank,
            world_size=self.world_size,
            lengths=split.lengths if sampled is None else sampled.lengths,
            join=name != "train",
            frozen=self.frozen,
        )
        if not len(batches):
            more = f", or hold out more with datamodule.{name}=COUNT" if name in HELD_OUT else ""
            raise EmptyDatasetError(
                f"the {name} split has {len(split.pairs) - split.num_dropped:,} pairs to serve, but there are "
                f"{self.world_size} ranks, and each takes one at least. Use fewer with trainer.devices{more}"
            )
        if sampled is not None:
            served: EncodedBatches = SampledBatches(split.pairs, split.layout, sampled, seed=self.seed)
        else:
            served = (SourceBatches if name == PREDICT else EncodedBatches)(split.pairs, split.layout)
        served.size = num_units(planner, split.lengths, split.excluded)
        return PlanLoader(served, batches, num_workers=self.num_workers, pin_memory=self.pin_memory)

    def _why_empty(self, name: str, split: OpenSplit) -> str:
        layout = split.layout
        if split.num_dropped and layout.max_source_tokens is None and layout.max_target_tokens is None:
            return (
                f"all {split.num_dropped} pairs of the {name} split have more UTF-8 bytes on a side than "
                "datamodule.eval_max_bytes allows. Raise it, or set it to null"
            )
        if split.num_dropped:
            return (
                f"all {split.num_dropped} pairs of the {name} split are longer than datamodule.max_source_tokens="
                f"{layout.max_source_tokens} or datamodule.max_target_tokens={layout.max_target_tokens}. "
                "Raise them, or set datamodule.too_long=truncate"
            )
        return (
            f"the {name} split came out empty. Hold out more with datamodule.{name}=COUNT, "
            f"none with datamodule.{name}=null, or see what the filter dropped: mtx task=show stage=filtered"
        )
