"""Decoding of one position at a time: keys and values of earlier positions are kept instead of computed again.

The result equals that of `Transformer.decode` up to rounding. `n_best_search` calls `next_logits` and `reorder`.

Shapes: N sentences, K hypotheses of each, H = N * K rows, S source positions, t target positions so far, D `d_model`,
h attention heads, V target vocabulary.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from mtx.evaluation.beam_search import Hypothesis, n_best_search
from mtx.training.reference.network import Transformer

FIRST_CAPACITY = 32  # target positions for which a cache has room at first; the room doubles when it is full


class IncrementalDecoder:
    """Computes the logits of the next token for hypotheses that grow by one token with each call.

    Args:
        network: the network, in evaluation mode.
        source_ids: int64 [N, S].
        source_mask: bool [N, S], True at real tokens.
    """

    def __init__(self, network: Transformer, source_ids: Tensor, source_mask: Tensor) -> None:
        self._network = network
        memory = network.encode(source_ids, source_mask)
        mask = source_mask.clone()
        mask[:, 0] = True  # as in training: attention over no position would give NaN for an empty source
        self._mask = mask[:, None, None, :]
        layers = cast(Iterable[nn.TransformerDecoderLayer], network.decoder.layers)
        self._layers = [_LayerCache(layer, memory) for layer in layers]
        self._sentences = torch.arange(len(source_ids), device=source_ids.device)
        self._length = 0

    def next_logits(self, tokens: Tensor, sentences: Tensor) -> Tensor:
        """Return the logits of the next token, float [H, V].

        Args:
            tokens: int64 [H, t]; only the last token of each row is new.
            sentences: int64 [H], the sentence of each row, ascending, K rows for each.
        """
        network, position = self._network, self._length
        beam = int((sentences == sentences[0]).sum())
        kept = sentences[::beam].contiguous()
        if len(kept) != len(self._sentences):
            places = torch.searchsorted(self._sentences, kept)
            self._sentences, self._mask = kept, self._mask[places]
            for layer in self._layers:
                layer.keep_sentences(places)
        hidden = network.target_embedding(tokens[:, -1]) * math.sqrt(network.d_model) + network.positions[position]
        for layer in self._layers:
            hidden = layer(hidden, self._mask, position, beam)
        self._length += 1
        final = network.decoder.norm
        return network.logits(hidden if final is None else final(hidden))

    def reorder(self, rows: Tensor) -> None:
        """Let each row of the next call continue a row of the last call: int64 [H]."""
        for layer in self._layers:
            layer.keep_rows(rows, self._length)


class _LayerCache:
    """A decoder layer, with the keys and values of the source and of all earlier target positions."""

    def __init__(self, layer: nn.TransformerDecoderLayer, memory: Tensor) -> None:
        self._layer = layer
        self._heads = layer.self_attn.num_heads
        width = memory.shape[-1]
        weight, bias = layer.multihead_attn.in_proj_weight, layer.multihead_attn.in_proj_bias
        of_source = linear(memory, weight[width:], bias[width:])  # [N, S, 2 D]
        self._source = [self._split_heads(part).transpose(1, 2).contiguous() for part in of_source.chunk(2, dim=-1)]
        self._target: Tensor | None = None  # [2, H, h, capacity, D / h]: keys and values

    def __call__(self, hidden: Tensor, mask: Tensor, position: int, beam: int) -> Tensor:
        """Return the states [H, D] after the layer, for states before it, at the target position `position`."""
        layer = self._layer
        hidden = hidden + self._self_attention(layer.norm1(hidden), position)
        hidden = hidden + self._source_attention(layer.norm2(hidden), mask, beam)
        inner = layer.activation(layer.linear1(layer.norm3(hidden)))
        found: Tensor = hidden + layer.linear2(inner)
        return found

    def keep_sentences(self, sentences: Tensor) -> None:
        """Keep the keys and values of the source for these sentences only, int64 [N]."""
        self._source = [part[sentences] for part in self._source]

    def keep_rows(self, rows: Tensor, length: int) -> None:
        """Let each row continue another row, int64 [H], of which `length` target positions are known."""
        if self._target is None:
            return
        old = self._target
        if len(rows) == old.shape[1] and bool((rows == torch.arange(len(rows), device=rows.device)).all()):
            return
        self._target = old.new_empty((2, len(rows), *old.shape[2:]))
        self._target[..., :length, :] = old[..., :length, :].index_select(1, rows)

    def _self_attention(self, hidden: Tensor, position: int) -> Tensor:
        attention = self._layer.self_attn
        query, key, value = linear(hidden, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        cache = self._with_room(hidden, position)
        cache[0, :, :, position], cache[1, :, :, position] = self._split_heads(key), self._split_heads(value)
        keys, values = cache[:, :, :, : position + 1]
        found = scaled_dot_product_attention(self._split_heads(query)[:, :, None], keys, values)
        return attention.out_proj(found.flatten(1))  # type: ignore[no-any-return]

    def _source_attention(self, hidden: Tensor, mask: Tensor, beam: int) -> Tensor:
        attention, width = self._layer.multihead_attn, hidden.shape[-1]
        query = linear(hidden, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
        # the hypotheses of a sentence are positions of one query, so that the source is not copied for each
        queries = self._split_heads(query.view(-1, beam, width)).transpose(1, 2)
        keys, values = self._source
        found = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return attention.out_proj(found.transpose(1, 2).reshape(-1, width))  # type: ignore[no-any-return]

    def _with_room(self, hidden: Tensor, position: int) -> Tensor:
        """Return the keys and values of the target, with room for `position`."""
        if self._target is None:
            heads = self._heads
            shape = (2, len(hidden), heads, FIRST_CAPACITY, hidden.shape[-1] // heads)
            self._target = hidden.new_empty(shape)
        elif position >= self._target.shape[3]:
            self._target = torch.cat([self._target, torch.empty_like(self._target)], dim=3)
        return self._target

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:-1], self._heads, -1)


@torch.inference_mode()
def search_translations(
    network: Transformer,
    source_ids: Tensor,
    source_mask: Tensor,
    *,
    max_tokens: Tensor,
    pad_id: int,
    bos_id: int,
    eos_id: int,
    beam: int = 1,
    n_best: int = 1,
    length_penalty: float = 1.0,
    first: Tensor | None = None,
    starts: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Return the best translations of each source, the best first, without `first`.

    Args:
        network: the network; it computes in evaluation mode here, and returns to its mode.
        source_ids: int64 [N, S].
        source_mask: bool [N, S], True at real tokens.
        max_tokens: int64 [N], the largest number of tokens of each translation; at most `max_positions` count.
        pad_id: the id of padding in the target vocabulary, which is never chosen.
        bos_id: the first id of the decoder input, which is never chosen.
        eos_id: the id that ends a translation.
        beam: number of hypotheses kept per sentence; 1 is greedy search.
        n_best: the largest number of translations of a source, at most `beam`.
        length_penalty: see `mtx.evaluation.beam_search.n_best_search`.
        first: int64 [N], the token with which each translation is forced to begin; None: no token is.
        starts: int64 [N], the first id of the decoder input of each sentence; None: `bos_id`.
    """
    was_training = network.training
    network.eval()
    decoder = IncrementalDecoder(network, source_ids, source_mask)
    try:
        found = n_best_search(
            decoder.next_logits,
            max_tokens=(max_tokens if first is None else max_tokens + 1).clamp(1, network.max_positions),
            bos_id=bos_id,
            eos_id=eos_id,
            beam=beam,
            n_best=n_best,
            length_penalty=length_penalty,
            never=sorted({pad_id, bos_id} - {eos_id}),
            reorder=decoder.reorder,
            first=first,
            starts=starts,
        )
    finally:
        network.train(was_training)
    if first is None:
        return found
    return [[replace(each, ids=each.ids[1:]) for each in of_source] for of_source in found]
