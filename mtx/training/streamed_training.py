"""`datamodule.stream=true`: what a data module adds, so that training begins while the source is still read.

Importing this module imports neither Lightning nor torch.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.planner import Planner
from mtx.data.preparation import Recipe, StageIds
from mtx.data.revision_caching_downloader import revision_caching_downloader
from mtx.data.shard_preparation import ShardStages
from mtx.data.source_shards import ShardDownloader, SourceShards
from mtx.data.store import Store
from mtx.infra.dataset.download import Downloader

if TYPE_CHECKING:
    from mtx.training.prepared_data import PreparedData
    from mtx.training.shard_stream_loader import ShardStreamLoader
    from mtx.training.split_loader import LoaderSettings
    from mtx.training.streamed_shards import OpenedShard, StreamedShards


class StreamedTraining:
    """The streamed training split of a data module. Its first shard is the corpus that the stages prepare.

    Args:
        store: the store.
        downloader: the source.
        rows_per_shard: rows of the source in a shard.
        seed: seed of the training order.
    """

    def __init__(self, store: Store, downloader: Downloader, rows_per_shard: int, *, seed: int) -> None:
        self._store = store
        self._seed = seed
        self._source = SourceShards(revision_caching_downloader(downloader, store), rows_per_shard)
        self._opened: tuple[StageIds, StreamedShards] | None = None
        self._loader: ShardStreamLoader | None = None

    @property
    def num_rows(self) -> int | None:
        """The limit `downloader.n` of the rows of the source; None: there is none."""
        return getattr(self._source.source.original, "n", None)

    @property
    def first_shard(self) -> ShardDownloader:
        """The first shard of the source, as a source of its own."""
        return self._source.shard(0)

    def loader(
        self, prepared: "PreparedData", recipe: Recipe, planner: Planner, settings: "LoaderSettings"
    ) -> "ShardStreamLoader":
        """Return a new loader of the stream.

        Args:
            prepared: the data of the first shard.
            recipe: the settings of all stages.
            planner: forms the batches of each shard.
            settings: what all loaders of the run share.
        """
        from mtx.training.shard_stream_loader import ShardStreamLoader

        self._loader = ShardStreamLoader(self._shards(prepared, recipe), planner, settings)
        return self._loader

    def rows_of(self, row_ids: NDArray[np.int64]) -> "tuple[OpenedShard, NDArray[np.int64]]":
        """Return the shard of a batch with these `row_ids`, int64 [B], and the numbers of its rows in it, int64 [B]."""
        assert self._opened is not None
        return self._opened[1].rows_of(row_ids)

    def ledger(self) -> dict[str, Any] | None:
        """Return the ledger of the last loader; None without a loader."""
        return None if self._loader is None else self._loader.ledger()

    def _shards(self, prepared: "PreparedData", recipe: Recipe) -> "StreamedShards":
        from mtx.training.streamed_shards import StreamedShards

        if self._opened is None or self._opened[0] != prepared.ids:
            stages = ShardStages(recipe, self._store, self._source, prepared.ids, prepared.tokenizers)
            shards = StreamedShards(
                stages,
                recipe,
                prepared.ids,
                self._store,
                layout=prepared.batch_format,
                too_long=prepared.too_long,
                seed=self._seed,
            )
            self._opened = prepared.ids, shards
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_loader": None}
