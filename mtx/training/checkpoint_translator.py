"""Translate texts with a checkpoint: no store, no corpus, and, for the reference model, no Lightning.

    texts → normaliser → token ids → batches of similar length → beam search → texts, in the order of the input

Shapes: B sentences of a batch, S source positions.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch, collate_rows
from mtx.batches.prompted_pairs import PromptedPairs, PromptVariants
from mtx.components.bounded_numbers import MAX_INTEGER
from mtx.data.normalise import Normaliser
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.data.tokenize.tokenization import vocabulary_size
from mtx.errors import ConfigError, DataError
from mtx.evaluation.beam_search import Hypothesis
from mtx.infra.dataset.pair_stream import is_text
from mtx.training.causal_prompts import language_prompts
from mtx.training.checkpoint_content import existing_checkpoint, read_checkpoint
from mtx.training.own_model_from_checkpoint import own_model
from mtx.training.reference.incremental_decoding import search_translations
from mtx.training.reference.network import Transformer
from mtx.training.reference.network_from_checkpoint import network_of
from mtx.training.translation_device import translation_device
from mtx.training.translation_state import TranslationState, translation_state, version_of

log = logging.getLogger(__name__)

BATCH_TOKENS = 4096  # padded source positions of a batch, times the beam


@dataclass(frozen=True)
class SearchOptions:
    """How translations are searched for.

    Attributes:
        beam: number of hypotheses kept per sentence; 1 is greedy search.
        n_best: number of translations of each sentence, at most `beam`.
        length_penalty: 0 prefers short translations, 1 compares the mean log-probability per token.
        batch_tokens: padded source positions of a batch, times `beam`. A longer sentence is a batch of its own.
    """

    beam: int = 4
    n_best: int = 1
    length_penalty: float = 1.0
    batch_tokens: int = BATCH_TOKENS

    def __post_init__(self) -> None:
        for name in ("beam", "n_best", "batch_tokens"):
            if not 1 <= getattr(self, name) <= MAX_INTEGER:
                raise ConfigError(f"task.{name} must be at least 1, but is {getattr(self, name)}. Set task.{name}=4")
        if self.n_best > self.beam:
            raise ConfigError(
                f"task.n_best must be at most task.beam={self.beam}, but is {self.n_best}. Set task.beam={self.n_best}"
            )


@dataclass(frozen=True)
class ScoredText:
    """A translation as text, and its log-probability per token in nats, by the length penalty; NaN if not known."""

    text: str
    score: float


class Generator(Protocol):
    """Finds the translations of a batch."""

    def generate(self, batch: Batch, max_tokens: Tensor, options: SearchOptions) -> list[list[Hypothesis]]:
        """Return the best translations of each source, the best first; `max_tokens` is int64 [B]."""


class ReferenceGenerator:
    """Generates with the network of the reference model."""

    def __init__(self, network: Transformer, batch_format: BatchFormat) -> None:
        self.network = network
        self.forced_target_tokens = batch_format.forced_target_tokens
        self._target = batch_format.target

    def generate(self, batch: Batch, max_tokens: Tensor, options: SearchOptions) -> list[list[Hypothesis]]:
        """Return the best translations of each source, the best first."""
        return search_translations(
            self.network,
            batch["encoder_input_ids"],
            batch["encoder_attn_mask"],
            max_tokens=max_tokens,
            pad_id=self._target.pad,
            bos_id=self._target.bos,
            eos_id=self._target.eos,
            beam=options.beam,
            n_best=options.n_best,
            length_penalty=options.length_penalty,
            first=batch["labels"][:, 0] if self.forced_target_tokens else None,
            starts=batch["decoder_input_ids"][:, 0],
        )


class ModuleGenerator:
    """Generates with the method `translate` of a user's own model, which gives one translation without a score."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def generate(self, batch: Batch, max_tokens: Tensor, options: SearchOptions) -> list[list[Hypothesis]]:
        """Return one translation of each source."""
        if options.n_best > 1:
            raise ConfigError(f"{type(self.model).__name__}.translate gives one translation. Set task.n_best=1")
        if options.length_penalty != 1:
            raise ConfigError(f"{type(self.model).__name__}.translate has no length penalty. Set task.length_penalty=1")
        with torch.inference_mode():
            found = self.model.translate(batch, int(max_tokens.max()), beam=options.beam)
        return [[Hypothesis(list(ids), math.nan)] for ids in found]


class CheckpointTranslator:
    """Translates texts with the model, the tokenizers and the normaliser of a checkpoint.

    Args:
        state: tokenizers, normaliser and batch format.
        generator: the model.
        device: where the model computes.
    """

    def __init__(self, state: TranslationState, generator: Generator, device: torch.device) -> None:
        self.state = state
        self.generator = generator
        self.device = device
        self._has_warned = False

    @property
    def languages(self) -> tuple[str, str]:
        """The codes of the source and the target language, such as `en` and `de`."""
        return self.state.languages

    def translate(self, texts: Sequence[str], **options: Any) -> list[str]:
        """Return the translation of each text, in order; `options` are those of `SearchOptions`.

        An empty text has an empty translation. A text longer than the maximum of the training is truncated, which
        `num_truncated` counts.

        Raises:
            ConfigError: an option is invalid.
            DataError: a text contains a lone surrogate.
        """
        return [found[0].text for found in self.n_best(texts, **options)]

    def n_best(self, texts: Sequence[str], **options: Any) -> list[list[ScoredText]]:
        """Return the best translations of each text, in order, the best first; see `translate`."""
        if isinstance(texts, str):
            raise DataError(f"texts are a list, but are one text. Write translate([{texts[:40]!r}])")
        return self.n_best_of_ids(self.encode(texts), SearchOptions(**options))

    def n_best_of_ids(
        self, rows: Sequence[list[int]], options: SearchOptions, reach: Callable[[int], None] | None = None
    ) -> list[list[ScoredText]]:
        """Return the best translations of each source, in order, the best first.

        Args:
            rows: the token ids of each source, as `encode` returns them.
            options: how to search.
            reach: called after each batch with the number of translated sources.
        """
        found, num_done = [[ScoredText("", 0.0)] for _ in rows], sum(not ids for ids in rows)
        for batch in batches_by_length([len(ids) for ids in rows], options):
            for row, hypotheses in zip(batch, self._search([rows[row] for row in batch], options), strict=True):
                best = [ScoredText(self._text(each.ids), each.score) for each in hypotheses]
                found[row] = best or [ScoredText("", math.nan)]  # if all logits are NaN
            num_done += len(batch)
            if reach is not None:
                reach(num_done)
        return found

    def encode(self, texts: Sequence[str], side: str = "source") -> list[list[int]]:
        """Return the token ids of each text after normalisation, not truncated, and with language tokens alone."""
        for number, text in enumerate(texts):
            if not is_text(text):
                raise DataError(f"text {number} contains a lone surrogate, which UTF-8 cannot encode. Remove it")
        return self.state.encoded(self.normalised(texts, side), side)

    def normalised(self, texts: Sequence[str], side: str = "source") -> list[str]:
        """Return the texts of a side as the normaliser of the training changes them."""
        missing = self.state.untagged_message(texts) if side == "source" else None
        if missing is not None and not self._has_warned:
            log.warning(missing)
            self._has_warned = True
        return self.state.normalised(texts, side)

    def num_truncated(self, lengths: Sequence[int]) -> int:
        """Return how many texts of these numbers of tokens are longer than the maximum of a source."""
        return sum(length > self._capacity for length in lengths)

    @property
    def max_source_tokens(self) -> int | None:
        """The largest number of source positions: that of the training, at most that of the model; None: no limit."""
        layout = self.state.batch_format
        limits = [layout.max_source_tokens] if layout.max_source_tokens is not None else []
        if isinstance(self.generator, ReferenceGenerator):
            limits.append(self.generator.network.max_positions)
        return min(limits, default=None)

    @property
    def _capacity(self) -> float:
        most = self.max_source_tokens
        return math.inf if most is None else max(most - self.num_source_extra, 0)

    @cached_property
    def num_source_extra(self) -> int:
        """Number of positions of a source beside its own ids: for EOS, or for the prompt of a decoder-only model."""
        return self.state.batch_format.source_extra if self._prompts is None else int(self._prompts.lengths[0])

    @cached_property
    def _prompts(self) -> PromptVariants | None:
        state = self.state
        if not state.batch_format.is_causal:
            return None
        return language_prompts(state.batch_format, state.target, state.languages, state.directions)

    def _search(self, rows: Sequence[list[int]], options: SearchOptions) -> list[list[Hypothesis]]:
        cut = [ids if len(ids) <= self._capacity else ids[: int(self._capacity)] for ids in rows]
        batch = self.batch_of(cut, self.state.encoded([""] * len(cut), "target"))
        limits = torch.tensor([(len(ids) + self.num_source_extra) * 3 // 2 + 10 for ids in cut], device=self.device)
        return self.generator.generate(batch, limits, options)

    def batch_of(self, sources: Sequence[list[int]], targets: Sequence[list[int]]) -> Batch:
        """Return a batch of token ids in the format of the training, on the device."""
        layout, rows = self.state.batch_format, (TokenRows.of(sources), TokenRows.of(targets))
        pairs = EncodedPairs(*rows)
        if self._prompts is not None:
            pairs = PromptedPairs(*rows, prompts=self._prompts)
        names = "mtx" if isinstance(self.generator, ReferenceGenerator) else layout.names  # the search needs padding
        made = replace(layout, names=names, max_source_tokens=None, max_target_tokens=None, label_pad_id=None)
        batch = collate_rows(pairs, np.arange(len(sources)), made, compiled=False)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def _text(self, ids: list[int]) -> str:
        return str(self.state.target.decode(ids)).strip()


def batches_by_length(lengths: Sequence[int], options: SearchOptions) -> Iterator[list[int]]:
    """Yield the rows of each batch: texts of similar length, long ones first; empty texts are in no batch.

    Long batches come first, so that a lack of memory shows at once.
    """
    order = sorted((row for row, length in enumerate(lengths) if length), key=lambda row: (-lengths[row], row))
    batch: list[int] = []
    for row in order:
        width = lengths[batch[0]] + 1 if batch else 0
        if batch and (len(batch) + 1) * width * options.beam > options.batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def load_translator(
    ckpt: str | os.PathLike[str],
    *,
    device: str | None = None,
    model: Callable[..., Any] | None = None,
    normalise: Normaliser | None = None,
    direction: str | None = None,
) -> CheckpointTranslator:
    """Return a translator of a checkpoint. The checkpoint is enough: no store and no corpus is read.

    Only tensors and plain values are read from the file, and only the reference model is built from it.

    Args:
        ckpt: the checkpoint file, which mtx wrote in a training with its data module.
        device: where the model computes, such as `cpu` or `cuda:1`; None: `cuda` if there is one, else `cpu`.
        model: builds another model than the reference model: a class of a LightningModule, which gets the
            hyperparameters of the checkpoint, and has a method `translate`. A checkpoint holds no secrets: give those
            by `functools.partial`.
        normalise: how texts are changed before they are encoded; None: as in the training.
        direction: the direction, such as `en-de`, of a checkpoint of several; its tag is put before each source.

    Raises:
        ConfigError: the file is no checkpoint, holds other objects, or cannot translate.
    """
    path = existing_checkpoint(os.fspath(ckpt), task="translate")
    content = read_checkpoint(path)
    state = translation_state(content, path, normalise)
    state = state if direction is None else state.in_direction(direction)
    where = translation_device(device)
    if model is not None:
        return CheckpointTranslator(state, ModuleGenerator(own_model(model, content, path).to(where)), where)
    network = network_of(content, path, version_of(content))
    sizes = (network.source_embedding.num_embeddings, network.target_embedding.num_embeddings)
    if sizes != (vocabulary_size(state.source), vocabulary_size(state.target)):
        raise ConfigError(
            f"ckpt={path} has tokenizers of other sizes than its model, which has {sizes[0]} source and {sizes[1]} "
            "target tokens. Set ckpt= to a checkpoint of task=fit that is unchanged"
        )
    return CheckpointTranslator(state, ReferenceGenerator(network.to(where), state.batch_format), where)
