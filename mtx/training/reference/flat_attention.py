"""Attention over flat batches: the queries of each pair attend to the keys of the same pair only.

A flat batch has the tokens of all pairs one after another. Torch has no attention kernel for that on a CPU. Pairs of
similar lengths therefore form groups, and each group is padded for the attention alone. On a GPU,
`torch.nn.attention.varlen` takes flat batches as they are.

Shapes: B pairs, N queries and M keys of all pairs, H heads, E width of a head.
"""

import inspect
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtx.training.reference.attention_groups import attention_groups

VARLEN_TYPES = (torch.float16, torch.bfloat16)  # the types of number that varlen kernels take
LEAST_CAPABILITY = (8, 0)  # of a GPU, for varlen kernels

Int = NDArray[np.int64]


@dataclass(frozen=True)
class AttentionGroup:
    """Pairs of similar lengths, padded together for one call of attention.

    Attributes:
        num_pairs: number of pairs.
        num_queries: queries of each pair, padding included.
        num_keys: keys of each pair, padding included.
        is_key: bool [pairs, 1, 1, keys], True at real keys; None: all keys are real.
    """

    num_pairs: int
    num_queries: int
    num_keys: int
    is_key: Tensor | None


@dataclass(frozen=True)
class AttentionLayout:
    """Which queries and keys of a flat batch belong to the same pair.

    Attributes:
        query_offsets: int32 [B + 1], start of each pair's queries, as `cu_seqlens` of varlen attention.
        key_offsets: int32 [B + 1], start of each pair's keys.
        max_queries: queries of the longest pair.
        max_keys: keys of the longest pair.
        groups: the groups of pairs.
        query_slots: int64, the query of each slot in all groups, one group after another; padding has any query.
        key_slots: int64, the key of each slot in all groups.
        slot_of_query: int64 [N], the slot of each query.
    """

    query_offsets: Tensor
    key_offsets: Tensor
    max_queries: int
    max_keys: int
    groups: tuple[AttentionGroup, ...]
    query_slots: Tensor
    key_slots: Tensor
    slot_of_query: Tensor


def attention_layout(query_offsets: Tensor, key_offsets: Tensor) -> AttentionLayout:
    """Return the layout of a flat batch with these offsets, int32 [B + 1]; both may be the same tensor."""
    device = query_offsets.device
    starts = [offsets.cpu().numpy().astype(np.int64) for offsets in (query_offsets, key_offsets)]
    num_queries, num_keys = (np.diff(each) for each in starts)
    groups: list[AttentionGroup] = []
    query_slots, key_slots, places = [], [], []
    begun = 0
    for pairs in attention_groups(num_queries, num_keys):
        queries, keys = _padded_places(starts[0], pairs), _padded_places(starts[1], pairs)
        is_key = keys >= 0
        groups.append(
            AttentionGroup(
                len(pairs),
                queries.shape[1],
                keys.shape[1],
                None if is_key.all() else torch.from_numpy(is_key[:, None, None]).to(device),
            )
        )
        is_query = queries.reshape(-1) >= 0
        places.append((queries.reshape(-1)[is_query], begun + np.flatnonzero(is_query)))
        begun += queries.size
        query_slots.append(np.maximum(queries.reshape(-1), 0))
        key_slots.append(np.maximum(keys.reshape(-1), 0))
    slot_of_query = np.empty(int(starts[0][-1]), dtype=np.int64)
    for query, slot in places:
        slot_of_query[query] = slot
    return AttentionLayout(
        query_offsets,
        key_offsets,
        int(num_queries.max(initial=0)),
        int(num_keys.max(initial=0)),
        tuple(groups),
        _joined(query_slots, device),
        _joined(key_slots, device),
        torch.from_numpy(slot_of_query).to(device),
    )


def flat_attention(
    query: Tensor, key_value: Tensor, layout: AttentionLayout, *, is_causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """Return the attention of each query over the keys of its pair, float [N, H, E].

    On CUDA, half-precision attention without dropout uses torch's varlen kernel, if torch has it. All else uses groups.

    Args:
        query: float [N, H, E].
        key_value: float [M, 2, H, E], the keys and the values; one tensor, so that they are rearranged together.
        layout: which queries and keys belong to the same pair.
        is_causal: whether query i of a pair attends to the keys up to i only; pairs then have as many keys as queries.
        dropout: share of attention weights that are set to zero.
    """
    is_fit = query.is_cuda and not dropout and query.dtype in VARLEN_TYPES and len(key_value) > 0
    if is_fit and is_varlen_device(query.device) and (kernel := varlen_kernel()) is not None:
        return varlen_attention(kernel, query, key_value, layout, is_causal=is_causal)
    return grouped_attention(query, key_value, layout, is_causal=is_causal, dropout=dropout)


def grouped_attention(
    query: Tensor, key_value: Tensor, layout: AttentionLayout, *, is_causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """Compute `flat_attention` with one padded call for each group of pairs. A pair without keys gets zeros."""
    if not layout.groups or not len(key_value):
        return query * 0
    width = query[0].numel()
    queries = query.flatten(1).index_select(0, layout.query_slots)
    both = key_value.flatten(1).index_select(0, layout.key_slots)
    groups = layout.groups
    parts = zip(
        groups,
        torch.split(queries, [group.num_pairs * group.num_queries for group in groups]),
        torch.split(both, [group.num_pairs * group.num_keys for group in groups]),
        strict=True,
    )
    found = []
    for group, of_queries, of_keys in parts:
        sides = of_queries, of_keys[:, :width], of_keys[:, width:]
        heads_of = [side.view(group.num_pairs, -1, *query.shape[1:]).transpose(1, 2) for side in sides]
        # padding is on the right, so with causal attention no real query attends to it
        mask = None if is_causal else group.is_key
        attended = nn.functional.scaled_dot_product_attention(
            heads_of[0], heads_of[1], heads_of[2], attn_mask=mask, is_causal=is_causal, dropout_p=dropout
        )
        found.append(attended.transpose(1, 2).reshape(-1, width))
    return torch.cat(found).index_select(0, layout.slot_of_query).view_as(query)


def varlen_attention(
    kernel: Any, query: Tensor, key_value: Tensor, layout: AttentionLayout, *, is_causal: bool
) -> Tensor:
    """Compute `flat_attention` with `torch.nn.attention.varlen.varlen_attn`, which needs a GPU and half precision."""
    attended: Tensor = kernel(
        query,
        *key_value.unbind(1),
        layout.query_offsets,
        layout.key_offsets,
        layout.max_queries,
        layout.max_keys,
        window_size=(-1, 0) if is_causal else (-1, -1),
    )
    return attended


def reference_attention(
    query: Tensor, key_value: Tensor, layout: AttentionLayout, *, is_causal: bool = False
) -> Tensor:
    """Compute `flat_attention` one pair at a time, from its definition; slow, for comparisons."""
    found, (key, value) = [], key_value.unbind(1)
    queries, keys = layout.query_offsets.tolist(), layout.key_offsets.tolist()
    for number in range(len(queries) - 1):
        mine = slice(queries[number], queries[number + 1]), slice(keys[number], keys[number + 1])
        scores = torch.einsum("nhe,mhe->hnm", query[mine[0]], key[mine[1]]) / math.sqrt(query.shape[2])
        if is_causal:
            scores = scores.masked_fill(torch.ones(scores.shape[1:]).triu(1).bool(), -torch.inf)
        found.append(torch.einsum("hnm,mhe->nhe", scores.softmax(-1), value[mine[1]]))
    return torch.cat(found) if found else query * 0


@cache
def varlen_kernel() -> Any:
    """Return torch's attention kernel for sequences of unequal lengths, or None if this version of torch has none.

    The first versions of the kernel have no `window_size`, by which causal attention is chosen here.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


@cache
def is_varlen_device(device: torch.device) -> bool:
    """Return whether the varlen kernels run on this GPU: they need NVIDIA's Ampere or a later architecture."""
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


def _padded_places(starts: Int, pairs: Int) -> Int:
    """Return the places of the tokens of `pairs`, int64 [pairs, longest]; -1 at padding."""
    lengths = starts[pairs + 1] - starts[pairs]
    within = np.arange(max(int(lengths.max()), 1))
    padded: Int = np.where(within < lengths[:, None], starts[pairs][:, None] + within, -1)
    return padded


def _joined(parts: list[Int], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)).to(device)
