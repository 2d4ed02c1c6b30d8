"""Datasets of whole batches: each index is the row numbers of a batch, as a plan gives them."""

import numbers
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch, Collator
from mtx.batches.collate_causal import PROMPT_INPUTS, prompt_arrays
from mtx.batches.plan.rank_assignment import Item
from mtx.batches.schema import supported_schema
from mtx.data.token_rows import EncodedPairs
from mtx.errors import ConfigError


class WholeBatch(dict[str, Any]):
    """A batch that refuses to be an example of a batch: torch's default collate function asks it for its key 0."""

    def __missing__(self, key: object) -> NoReturn:
        if isinstance(key, int):
            raise ConfigError(
                "a DataLoader collates batches that are whole. Set DataLoader(loader.dataset, "
                "sampler=loader.batch_sampler, batch_size=None); with a batch sampler of your own, set "
                "collate_fn=lambda batch: batch"
            )
        raise KeyError(key)


class EncodedBatches(Dataset[Batch]):
    """Dataset of whole batches: an index is an array of row numbers (int64 [B], or any sequence), or (rows, widths).

    The widths are the source and target positions to which the batch is padded; without widths, each side is padded to
    its longest text.
    A plain `DataLoader(dataset, sampler=EpochBatches(…), batch_size=None)` also accepts this dataset, with any number
    of workers. Forked workers share the pairs in memory; spawned workers get a copy each. Picklable, thread-safe.
    """

    def __init__(self, pairs: EncodedPairs, batch_format: BatchFormat) -> None:
        self.pairs = pairs
        self.batch_format = batch_format
        self._collate = {pin: Collator(pairs, batch_format, pin_memory=pin) for pin in (False, True)}
        self.size: int | None = None  # Lightning's batch-size finder takes len() as an upper bound of the batch budget

    def __len__(self) -> int:
        return len(self.pairs) if self.size is None else self.size

    def of_epoch(self, epoch: int) -> "EncodedBatches":
        """Return the dataset for one epoch: this object; `SampledBatches` returns other token ids for each epoch."""
        return self

    def __getitem__(self, item: Item) -> Batch:
        if isinstance(item, numbers.Integral):
            raise ConfigError(
                f"an index of {type(self).__name__} is an array with the row numbers of a batch, but is {item}: "
                "another sampler has replaced mtx's sampler. Give the loader to the tool as it is; see "
                "docs/howto/tools.md"
            )
        return self.build_batches([item])[0]

    def __getitems__(self, item: Item) -> Batch:
        """Return the batch of an item to a `DataLoader` whose batch sampler gives row numbers, as `EpochBatches` does.

        The `DataLoader` needs a `collate_fn` that returns the batch as it is.
        """
        return WholeBatch(self[item])

    def build_batches(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        """Build the batches of several items in one call; override this method to change every batch of a dataset."""
        rows, widths = zip(*(item if isinstance(item, tuple) else (item, (0, 0)) for item in items), strict=True)
        return self._collate[pin_memory](rows, widths)


class SourceBatches(EncodedBatches):
    """Dataset of batches for prediction: the source side, and `row_ids`, the line numbers of the texts from 0."""

    def build_batches(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        """Build the source-side batches of several items in one call."""
        made = super().build_batches(items, pin_memory=pin_memory)
        return [self._source(batch, item, pin_memory) for batch, item in zip(made, items, strict=True)]

    def _source(self, batch: Batch, item: Item, pin_memory: bool) -> Batch:
        kept = {name: batch[name] for name in supported_schema(self.batch_format.names).source_names}
        row_ids = torch.as_tensor(item[0] if isinstance(item, tuple) else item)
        return {**kept, "row_ids": row_ids.pin_memory() if pin_memory else row_ids}


class PromptBatches(EncodedBatches):
    """Dataset of decoder-only batches for prediction: `input_ids` and `attention_mask`, int64 [B, L], and `row_ids`.

    They are prompts, padded on the left, so that a model continues each with its translation.
    """

    def build_batches(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        """Build the prompts of several items in one call."""
        return [self._prompts(item[0] if isinstance(item, tuple) else item, pin_memory) for item in items]

    def _prompts(self, rows: NDArray[np.int64], pin_memory: bool) -> Batch:
        rows = np.array(rows, dtype=np.int64)  # copied, because it becomes `row_ids`
        named = zip(PROMPT_INPUTS, prompt_arrays(self.pairs, rows, self.batch_format), strict=True)
        tensors = {name: torch.from_numpy(array) for name, array in (*named, ("row_ids", rows))}
        return {name: tensor.pin_memory() if pin_memory else tensor for name, tensor in tensors.items()}
