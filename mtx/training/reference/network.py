"""Network of the reference model: a small encoder-decoder Transformer, built from layers of torch.nn.

The architecture follows Vaswani et al., "Attention Is All You Need" (2017). Layer norms are before the blocks (Xiong et
al., 2020), so training needs no long warm-up. The network takes token ids and returns hidden states; `logits` computes
scores over the vocabulary from hidden states.

Shapes: B pairs, S source and T target positions, V target vocabulary, D = `d_model`. All batches are padded on the
right.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtx.errors import ConfigError, DataError


def check_lengths(max_positions: int, limits: Mapping[str, Any]) -> None:
    """Raise ConfigError if a model takes fewer tokens than `max_source_tokens` or `max_target_tokens` of `limits`."""
    for key in ("max_source_tokens", "max_target_tokens"):
        longest = limits.get(key) or 0
        if longest > max_positions:
            raise ConfigError(
                f"the model takes at most model.max_positions={max_positions} tokens, but batches may have {longest} "
                f"(datamodule.{key}). Set model.max_positions={longest}, or lower datamodule.{key}"
            )


class Transformer(nn.Module):
    """Encoder, decoder, and an output layer that shares its weights with the target embedding.

    Args:
        source_vocab_size: tokens of the source vocabulary.
        target_vocab_size: tokens of the target vocabulary.
        joint_vocabulary: true if both sides have the same vocabulary; they then share one embedding.
        d_model: width of the hidden states.
        num_heads: attention heads; a divisor of `d_model`.
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder.
        dim_feedforward: width inside the feed-forward layers.
        dropout: share of activations set to zero in training.
        activation: activation of the feed-forward layers, `relu` or `gelu`.
        max_positions: maximal length of a sequence in tokens, BOS or EOS included.

    Raises ConfigError if `d_model` is odd or no multiple of `num_heads`, or if a joint vocabulary has two sizes.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        source_vocab_size: int,
        target_vocab_size: int,
        joint_vocabulary: bool,
        d_model: int,
        num_heads: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        dim_feedforward: int,
        dropout: float,
        activation: str,
        max_positions: int,
    ) -> None:
        super().__init__()
        if d_model % num_heads or d_model % 2:
            raise ConfigError(
                f"model.d_model must be even and a multiple of model.num_heads, but is {d_model} with {num_heads} "
                f"heads. Set model.num_heads to a divisor of {d_model}, or change model.d_model"
            )
        if joint_vocabulary and source_vocab_size != target_vocab_size:
            raise ConfigError(
                f"with model.joint_vocabulary=true, both vocabularies must have the same size, but the source has "
                f"{source_vocab_size} tokens and the target {target_vocab_size}. Set model.joint_vocabulary=false"
            )
        self.d_model = d_model
        self.max_positions = max_positions
        self.target_embedding = _embedding(target_vocab_size, d_model)
        self.source_embedding = self.target_embedding if joint_vocabulary else _embedding(source_vocab_size, d_model)
        self.dropout = nn.Dropout(dropout)
        block = {"dropout": dropout, "activation": activation, "batch_first": True, "norm_first": True}
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(d_model, num_heads, dim_feedforward, **block),  # type: ignore[arg-type]
            num_encoder_layers,
            norm=nn.LayerNorm(d_model),
            enable_nested_tensor=False,  # has no effect with norm_first, and warns if set
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(d_model, num_heads, dim_feedforward, **block),  # type: ignore[arg-type]
            num_decoder_layers,
            norm=nn.LayerNorm(d_model),
        )
        self.register_buffer("positions", position_encodings(max_positions, d_model), persistent=False)
        for parameter in [*self.encoder.parameters(), *self.decoder.parameters()]:
            if parameter.dim() > 1:  # all layers are copies of one layer, so each is initialised again
                nn.init.xavier_uniform_(parameter)

    def forward(self, source_ids: Tensor, source_mask: Tensor, target_ids: Tensor) -> Tensor:
        """Return the decoder's hidden states at all target positions.

        Args:
            source_ids: int64 [B, S].
            source_mask: bool [B, S], True at real tokens.
            target_ids: int64 [B, T], BOS followed by the target.

        Returns:
            float [B, T, D]; the state at position t depends only on target positions up to t.

        Raises:
            DataError: a sequence is longer than `max_positions`.
        """
        return self.decode(target_ids, self.encode(source_ids, source_mask), source_mask)

    def encode(self, source_ids: Tensor, source_mask: Tensor) -> Tensor:
        """Return the encoder's hidden states, float [B, S, D]; see `forward`."""
        hidden = self._embedded(source_ids, self.source_embedding, "source")
        states: Tensor = self.encoder(hidden, src_key_padding_mask=_padding_mask(source_mask))
        return states

    def decode(self, target_ids: Tensor, memory: Tensor, source_mask: Tensor) -> Tensor:
        """Return the decoder's hidden states, float [B, T, D], for the encoder states `memory`; see `forward`.

        Targets are padded on the right, so with causal attention a real position never attends to padding. Therefore no
        padding mask is needed for targets, and torch uses its fastest kernel, for causal attention alone.
        """
        length = target_ids.shape[1]
        hidden = self._embedded(target_ids, self.target_embedding, "target")
        ahead = torch.ones(length, length, dtype=torch.bool, device=target_ids.device).triu(1)
        states: Tensor = self.decoder(
            hidden,
            memory,
            tgt_mask=ahead,
            tgt_is_causal=True,
            memory_key_padding_mask=_padding_mask(source_mask),
        )
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """Return scores over the target vocabulary, float [..., V], for hidden states [..., D]."""
        return nn.functional.linear(hidden, self.target_embedding.weight)

    def _embedded(self, ids: Tensor, embedding: nn.Embedding, side: str) -> Tensor:
        length = ids.shape[1]
        if length > self.max_positions:
            raise DataError(
                f"a batch has {length} {side} positions, but the model takes at most {self.max_positions}. "
                f"Set model.max_positions={length} or more, or datamodule.max_{side}_tokens={self.max_positions}"
            )
        hidden: Tensor = embedding(ids) * math.sqrt(self.d_model) + self.positions[:length]
        dropped: Tensor = self.dropout(hidden)
        return dropped


def position_encodings(num_positions: int, d_model: int) -> Tensor:
    """Return the position encodings of Vaswani et al., section 3.5, float32 [num_positions, d_model]."""
    if _is_on_meta():
        return torch.empty(num_positions, d_model)
    frequencies = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
    angles = torch.arange(num_positions)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _embedding(num_tokens: int, d_model: int) -> nn.Embedding:
    if _is_on_meta():
        return nn.Embedding(num_tokens, d_model, _weight=torch.empty(num_tokens, d_model))
    embedding = nn.Embedding(num_tokens, d_model)
    nn.init.normal_(embedding.weight, std=d_model**-0.5)  # as output weights: scores of about unit variance
    return embedding


def _is_on_meta() -> bool:
    """Return whether new tensors have no values; torch would import its compiler to compute some, for seconds."""
    return torch.empty(0).is_meta


def _padding_mask(mask: Tensor) -> Tensor:
    """Convert a mask that is True at real tokens to torch's padding mask, which is True at padding.

    The first position is never masked, because attention over no position would give NaN for an empty source.
    """
    padding = ~mask
    padding[:, 0] = False
    return padding
