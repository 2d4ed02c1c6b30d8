"""The reference network on flat batches: the same layers and parameters as on padded batches, without padding.

Everything but attention works on single tokens, so it takes the tokens of all pairs as one sequence. With the same
pairs and without dropout, hidden states and gradients equal those of padded batches up to rounding. An exception is a
source without any token: it gets zeros here, and the state of a padding token in padded batches.

Shapes: B pairs, N source and M target positions of all pairs, D = `d_model`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from mtx.errors import DataError
from mtx.training.reference.flat_attention import AttentionLayout, attention_layout, flat_attention
from mtx.training.reference.network import Transformer


def flat_hidden_states(network: Transformer, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the decoder's hidden states at all target positions of a flat batch, float [M, D].

    Args:
        network: the network, in training or evaluation mode.
        batch: a batch with `batch_format=flat`.

    Raises:
        DataError: a sequence is longer than `network.max_positions`.
    """
    sources, targets = batch["encoder_offsets"], batch["decoder_offsets"]
    hidden = _embedded(
        network, batch["encoder_input_ids"], batch["encoder_positions"], network.source_embedding, "source"
    )
    memory = _encoded(network, hidden, attention_layout(sources, sources))
    hidden = _embedded(
        network, batch["decoder_input_ids"], batch["decoder_positions"], network.target_embedding, "target"
    )
    own, cross = attention_layout(targets, targets), attention_layout(targets, sources)
    for layer in _layers(network.decoder):
        hidden = hidden + layer.dropout1(_attention(layer.self_attn, layer.norm1(hidden), None, own, is_causal=True))
        hidden = hidden + layer.dropout2(_attention(layer.multihead_attn, layer.norm2(hidden), memory, cross))
        hidden = hidden + layer.dropout3(_feed_forward(layer, layer.norm3(hidden)))
    return _normed(network.decoder, hidden)


def _encoded(network: Transformer, hidden: Tensor, layout: AttentionLayout) -> Tensor:
    for layer in _layers(network.encoder):
        hidden = hidden + layer.dropout1(_attention(layer.self_attn, layer.norm1(hidden), None, layout))
        hidden = hidden + layer.dropout2(_feed_forward(layer, layer.norm2(hidden)))
    return _normed(network.encoder, hidden)


def _embedded(network: Transformer, ids: Tensor, positions: Tensor, embedding: nn.Embedding, side: str) -> Tensor:
    longest = int(positions.max()) + 1 if len(positions) else 0
    if longest > network.max_positions:
        raise DataError(
            f"a batch has a {side} of {longest} positions, but the model takes at most {network.max_positions}. "
            f"Set model.max_positions={longest} or more, or datamodule.max_{side}_tokens={network.max_positions}"
        )
    hidden: Tensor = embedding(ids) * math.sqrt(network.d_model) + network.positions[positions]
    dropped: Tensor = network.dropout(hidden)
    return dropped


def _attention(
    attention: nn.MultiheadAttention,
    states: Tensor,
    memory: Tensor | None,
    layout: AttentionLayout,
    *,
    is_causal: bool = False,
) -> Tensor:
    """Apply an attention layer to flat states; None as `memory`: the states attend to themselves."""
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    width, heads = attention.embed_dim, attention.num_heads
    attended_to = states if memory is None else memory
    query = nn.functional.linear(states, weight[:width], bias[:width]).view(-1, heads, width // heads)
    key_value = nn.functional.linear(attended_to, weight[width:], bias[width:]).view(-1, 2, heads, width // heads)
    dropout = attention.dropout if attention.training else 0.0
    attended = flat_attention(query, key_value, layout, is_causal=is_causal, dropout=dropout)
    output: Tensor = attention.out_proj(attended.flatten(1))
    return output


def _feed_forward(layer: Any, states: Tensor) -> Tensor:
    output: Tensor = layer.linear2(layer.dropout(layer.activation(layer.linear1(states))))
    return output


def _layers(stack: nn.TransformerEncoder | nn.TransformerDecoder) -> Iterable[Any]:
    return cast(Iterable[Any], stack.layers)  # typed Any, since torch does not declare the layers' own modules


def _normed(stack: nn.TransformerEncoder | nn.TransformerDecoder, states: Tensor) -> Tensor:
    assert stack.norm is not None
    normed: Tensor = stack.norm(states)
    return normed
