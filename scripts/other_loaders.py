"""Other loaders over the token ids of mtx, which `bench_loader.py` compares with its own."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mtx.data.dataset import TranslationDataset
from mtx.data.token_rows import EncodedPairs
from mtx.infra.dataset.load import BucketBatchSampler, PTDataset, collate_fn
from mtx.training.datamodule import TranslationDataModule

MAX_TOKENS = 4096
Batches = Iterator[dict[str, torch.Tensor]]
Contestant = Callable[[], Batches]


def bare(dm: TranslationDataModule, encoded: EncodedPairs, planned: list[Any] | None = None) -> Contestant:
    """Return a hand-written compiled loop: permute, sort by length, cut greedily, and copy rows into five tensors."""
    from numba import njit

    @njit(nogil=True)
    def cut(source: Any, target: Any, order: Any, offsets: Any) -> int:
        number, start, longest = 0, 0, 0
        for i in range(order.size):
            longest = max(longest, source[order[i]], target[order[i]])
            if longest * (i + 1 - start) > MAX_TOKENS and i > start:
                number, start = number + 1, i
                offsets[number] = i
                longest = max(source[order[i]], target[order[i]])
        offsets[number + 1] = order.size
        return number + 1

    @njit(nogil=True)
    def copy(
        sids: Any, soff: Any, tids: Any, toff: Any, rows: Any, src: Any, smask: Any, dec: Any, lab: Any, tmask: Any
    ) -> None:
        for i in range(rows.size):
            start = soff[rows[i]]
            length = min(soff[rows[i] + 1] - start, 255)
            for j in range(length):
                src[i, j] = sids[start + j]
                smask[i, j] = True
            src[i, length] = 2
            smask[i, length] = True
            for j in range(length + 1, src.shape[1]):
                src[i, j] = 0
                smask[i, j] = False
            start = toff[rows[i]]
            length = min(toff[rows[i] + 1] - start, 255)
            dec[i, 0] = 1
            for j in range(length):
                dec[i, j + 1] = tids[start + j]
                lab[i, j] = tids[start + j]
                tmask[i, j] = True
            lab[i, length] = 2
            tmask[i, length] = True
            for j in range(length + 1, lab.shape[1]):
                dec[i, j] = 0
                lab[i, j] = 0
                tmask[i, j] = False

    lengths = dm.lengths("train")
    source, target = lengths.source, lengths.target
    flat = encoded.source.ids, encoded.source.offsets, encoded.target.ids, encoded.target.offsets
    random = np.random.default_rng(0)

    def plan() -> Iterator[Any]:
        shuffled = random.permutation(len(source))
        order = shuffled[np.lexsort((target[shuffled], source[shuffled]))]
        offsets = np.zeros(len(order) + 1, dtype=np.int64)
        number = cut(source, target, order, offsets)
        widths = [np.maximum.reduceat(side[order], offsets[:number]).tolist() for side in (source, target)]
        for batch in random.permutation(number):
            yield order[offsets[batch] : offsets[batch + 1]], widths[0][batch], widths[1][batch]

    if planned is not None:
        planned = [(rows, source[rows].max(), target[rows].max()) for rows in planned]

    def serve() -> Batches:
        for rows, width, other in plan() if planned is None else planned:
            shapes = [(len(rows), width)] * 2 + [(len(rows), other)] * 3
            types = (np.int64, np.bool_, np.int64, np.int64, np.bool_)
            made = [np.empty(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
            copy(*flat, rows, *made)
            names = ("encoder_input_ids", "encoder_attn_mask", "decoder_input_ids", "labels", "decoder_attn_mask")
            yield dict(zip(names, map(torch.from_numpy, made), strict=True))

    return serve


def grouped(dm: TranslationDataModule, encoded: EncodedPairs) -> Contestant:
    """Return a loader with the sampler and collator of transformers, over rows that are lists of token ids."""
    from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast
    from transformers.trainer_pt_utils import LengthGroupedSampler

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=dm.tokenizers.source, pad_token="<PAD>")
    eos = dm.batch_format.source.eos
    rows = [
        {"input_ids": [*encoded.source[i][:255].tolist(), eos], "labels": [*encoded.target[i][:255].tolist(), eos]}
        for i in range(len(encoded))
    ]
    lengths = [len(row["input_ids"]) for row in rows]
    collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
    loader = DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size=64,
        sampler=LengthGroupedSampler(64, lengths=lengths),
        collate_fn=collator,
    )
    return lambda: iter(loader)


def sockeye(dm: TranslationDataModule, encoded: EncodedPairs) -> Contestant:
    """Return the loader of Sockeye 3: its buckets are padded in advance and filled with repeated pairs, then sliced."""
    from sockeye import constants, data_io

    lengths, ids = dm.lengths("train"), dm.batch_format
    buckets = data_io.define_parallel_buckets(
        256, 256, bucket_width=8, length_ratio=lengths.source.sum() / lengths.target.sum()
    )
    sources = [[*encoded.source[i][:255].tolist(), ids.source.eos] for i in range(len(encoded))]
    targets = [[ids.target.bos, *encoded.target[i][:255].tolist()] for i in range(len(encoded))]
    counts = [0] * len(buckets)
    for one, other in zip(sources, targets, strict=True):
        counts[data_io.get_parallel_bucket(buckets, len(one), len(other))[0]] += 1
    loader = data_io.RawParallelDatasetLoader(buckets=buckets, eos_id=ids.target.eos, pad_id=ids.target.pad)
    sizes = data_io.define_bucket_batch_sizes(
        buckets, MAX_TOKENS, constants.BATCH_TYPE_MAX_WORD, data_target_average_len=[None] * len(buckets)
    )
    made = loader.load([sources], [targets], counts).fill_up(sizes)
    batches = data_io.ParallelSampleIter(made, buckets, None, sizes)

    def serve() -> Batches:
        batches.reset()
        while batches.iter_next():
            batch = batches.next()
            yield {"source": batch.source, "labels": batch.labels[constants.TARGET_LABEL_NAME]}

    return serve


def original(dm: TranslationDataModule) -> Contestant:
    """Return the loader of mtx's first design: buckets by source words, 32 pairs, tokenised when a batch is built."""
    assert dm.ids is not None
    dataset: TranslationDataset = dm.storage.repo.get(dm.ids.filtered["train"])
    table = [dict(row) for row in dataset.data]
    words = [len(row["src"].split()) for row in table]
    sampler = BucketBatchSampler(bucket_ids=words, batch_size=32, len_key=words, drop_last=True, pool_batches=1)
    collate = partial(collate_fn, tok=dm.tokenizers.source, batch_format=dm.batch_format)
    loader = DataLoader(PTDataset(data=table), batch_sampler=sampler, collate_fn=collate)
    return lambda: iter(loader)
