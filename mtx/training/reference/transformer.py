"""Reference model: the LightningModule that `task=fit` trains by default.

The model takes the batches of `TranslationDataModule`, and logs `train/loss`, `val/loss` and `val/bits_per_byte`. With
several validation sets, it also logs `val/NAME/loss` and `val/NAME/bits_per_byte`. All settings are plain numbers,
which are stored in the checkpoint, so a checkpoint loads without any other file.

Shapes: B pairs, S source and T target positions, N real labels of a batch, V target vocabulary.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

import pytorch_lightning as pl
import torch
from pydantic import Field
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mtx.batches.collate_flat import first_of_targets, padded_sources
from mtx.batches.schema import FLAT, MTX, is_flat, longest_source
from mtx.components.checked_options import Count, Probability, check_values
from mtx.errors import DataError
from mtx.evaluation.likelihood import LikelihoodSums, PairLikelihoods
from mtx.training.callbacks.token_mean_gradients import TokenMeanGradients
from mtx.training.reference.flat_network import flat_hidden_states
from mtx.training.reference.incremental_decoding import search_translations
from mtx.training.reference.network import Transformer, check_lengths
from mtx.training.reference.network_from_checkpoint import KIND, KIND_KEY
from mtx.training.reference.target_likelihoods import TargetLikelihoods

Batch = dict[str, Tensor]

REQUIRED_FIELDS = {schema.name: tuple(field.name for field in schema.fields) for schema in (MTX, FLAT)}


class TransformerTranslator(TargetLikelihoods, pl.LightningModule):
    """A small encoder-decoder Transformer for translation, which takes batches of the formats `mtx` and `flat`.

    AdamW minimises the mean loss per real label. The learning rate rises over `warmup_steps`, and then falls with the
    inverse square root of the step. The gradient over accumulated batches and several ranks equals the gradient of one
    big batch, even if the batches have unequal sizes. `task=fit` fills in the first six arguments from the data.

    Args:
        source_vocab_size: tokens of the source vocabulary.
        target_vocab_size: tokens of the target vocabulary.
        pad_id: the id with which targets are padded.
        bos_id: the first id of the decoder input.
        eos_id: the last id of a target.
        joint_vocabulary: true if both sides have the same vocabulary; they then share one embedding.
        d_model: width of the hidden states.
        num_heads: attention heads; a divisor of `d_model`.
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder.
        dim_feedforward: width inside the feed-forward layers.
        dropout: share of activations set to zero in training.
        activation: activation of the feed-forward layers.
        max_positions: maximal length of a sequence in tokens, BOS or EOS included.
        label_smoothing: share of the probability that the training loss spreads over the whole vocabulary.
        learning_rate: the highest learning rate, reached at the end of warm-up.
        warmup_steps: optimizer steps over which the learning rate rises.
        weight_decay: weight decay of weight matrices; embeddings, norms and biases have none.

    Raises ConfigError if `d_model` is odd or no multiple of `num_heads`, or if a joint vocabulary has two sizes.
    """

    batch_formats: ClassVar[tuple[str, ...]] = (MTX.name, FLAT.name)  # what the data module checks

    def __init__(
        self,
        *,
        source_vocab_size: int,
        target_vocab_size: int,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        joint_vocabulary: bool = False,
        forced_target_tokens: int = 0,
        d_model: Count = 256,
        num_heads: Count = 4,
        num_encoder_layers: Count = 3,
        num_decoder_layers: Count = 3,
        dim_feedforward: Count = 1024,
        dropout: Probability = 0.1,
        activation: Literal["relu", "gelu"] = "gelu",
        max_positions: Count = 1024,
        label_smoothing: Probability = 0.1,
        learning_rate: Annotated[float, Field(gt=0)] = 1e-3,
        warmup_steps: Count = 100,
        weight_decay: Annotated[float, Field(ge=0)] = 0.01,
    ) -> None:
        super().__init__()
        check_values("model", TransformerTranslator.__init__, locals())  # a decorator would hide hyperparameters
        self.save_hyperparameters()
        self.pad_id = pad_id
        self.bos_id = bos_id
        self.eos_id = eos_id
        self.forced_target_tokens = forced_target_tokens
        self.label_smoothing = label_smoothing
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.weight_decay = weight_decay
        self.network = Transformer(
            source_vocab_size=source_vocab_size,
            target_vocab_size=target_vocab_size,
            joint_vocabulary=joint_vocabulary,
            d_model=d_model,
            num_heads=num_heads,
            num_encoder_layers=num_encoder_layers,
            num_decoder_layers=num_decoder_layers,
            dim_feedforward=dim_feedforward,
            dropout=dropout,
            activation=activation,
            max_positions=max_positions,
        )
        self._sums: dict[str, LikelihoodSums] = {}  # by the name of the validation set, or "test"
        self.pair_likelihoods: dict[str, PairLikelihoods] = {}  # by the same names
        self._has_warned_of_bytes = False

    def setup(self, stage: str) -> None:
        """Check, before the first step, that the model accepts the longest sequence of the data module.

        The data module also says how many labels of each target are given.

        Raises ConfigError if `max_positions` is below the data module's maximal length.
        """
        limits: Mapping[str, Any] = getattr(getattr(self.trainer, "datamodule", None), "facts", dict)()
        self.forced_target_tokens = limits.get("forced_target_tokens", self.forced_target_tokens)
        check_lengths(self.network.max_positions, limits)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of the next token at all target positions, float [B, T, V], or [ΣT, V] if flat."""
        return self.network.logits(self._hidden_states(batch))

    def loss(self, batch: Batch) -> Tensor:
        """Return the training loss: the mean loss per real label, with label smoothing, in nats."""
        hidden, labels, _ = self._label_states(batch)
        logits = self.network.logits(hidden).float()
        total = nn.functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="sum")
        return total / max(len(labels), 1)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return `TokenMeanGradients`, which weights losses by tokens over accumulated batches and over ranks."""
        return [TokenMeanGradients()]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute, log and return the loss of a batch."""
        loss = self.loss(batch)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Reset the log-likelihoods, one collection for each validation set."""
        self._reset_sums(self._validation_sets())

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add the log-likelihood of a batch to the sums of its validation set."""
        self._add_to_sums(batch, list(self._sums)[dataloader_idx])

    def on_validation_epoch_end(self) -> None:
        """Log `val/loss` and `val/bits_per_byte`, over all batches of all ranks.

        With several validation sets, `val/loss` and `val/bits_per_byte` are those of the first set, and each set also
        has `val/NAME/loss` and `val/NAME/bits_per_byte`.
        """
        first, *others = self._sums
        self._log_sums(first, "val", *([f"val/{first}"] if others else []))
        for name in others:
            self._log_sums(name, f"val/{name}")

    def on_test_epoch_start(self) -> None:
        """Reset the log-likelihoods of the test split."""
        self._reset_sums(["test"])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the log-likelihood of a batch to the sums of the test split."""
        self._add_to_sums(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log `test/loss` and `test/bits_per_byte`, over all batches of all ranks."""
        self._log_sums("test", "test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the kind of the model, the only one that mtx builds by a checkpoint's own word.

        A subclass may compute something else, so it has no such kind.
        """
        if type(self) is TransformerTranslator:
            checkpoint[KIND_KEY] = KIND

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW, and a schedule that changes the learning rate at each step."""
        embeddings = {id(m.weight) for m in self.network.modules() if isinstance(m, nn.Embedding)}
        decayed = [p for p in self.parameters() if p.dim() > 1 and id(p) not in embeddings]
        others = [p for p in self.parameters() if p.dim() <= 1 or id(p) in embeddings]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.98), eps=1e-9)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def translate(self, batch: Batch, max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        """Translate the sources of a batch with beam search.

        Args:
            batch: a dict with `encoder_input_ids` int64 [B, S] and `encoder_attn_mask` bool [B, S], or a flat batch.
            max_tokens: maximal number of tokens in a translation, which then ends even without EOS; at most
                `max_positions`.
            beam: number of hypotheses kept per sentence; 1 is greedy search, which always takes the likeliest next
                token.

        Returns:
            The token ids of each translation, in the order of the batch, without BOS and EOS.
        """
        ids, mask = (each.to(self.device) for each in padded_sources(batch, self.pad_id))  # the search needs padding
        inputs = "decoder_input_ids"
        found = search_translations(
            self.network,
            ids,
            mask,
            max_tokens=torch.full((len(mask),), max_tokens, device=self.device),
            pad_id=self.pad_id,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            beam=beam,
            first=first_of_targets(batch, "labels", self.device) if self.forced_target_tokens else None,
            starts=first_of_targets(batch, inputs, self.device) if inputs in batch else None,
        )
        return [hypotheses[0].ids if hypotheses else [] for hypotheses in found]

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Translate a batch greedily, as `trainer.predict` asks for it.

        A translation has at most 1.5 times the tokens of the batch's longest source, plus 10.

        Returns:
            `row_ids`, int64 [B]: the line numbers or row numbers of the sources; `token_ids`: a list of token ids for
            each translation, without BOS and EOS; and `texts`, if the Trainer has mtx's data module.
        """
        token_ids = self.translate(batch, longest_source(batch) * 3 // 2 + 10)
        tokenizers = getattr(getattr(self.trainer, "datamodule", None), "tokenizers", None)
        texts = {} if tokenizers is None else {"texts": [tokenizers.target.decode(ids).strip() for ids in token_ids]}
        return {"row_ids": batch["row_ids"], "token_ids": token_ids, **texts}

    def _hidden_states(self, batch: Batch) -> Tensor:
        schema = FLAT if is_flat(batch) else MTX
        missing = [name for name in REQUIRED_FIELDS[schema.name] if name not in batch]
        if missing:
            raise DataError(
                f"the reference model needs batches in mtx's format, but a batch lacks {', '.join(missing)} and has "
                f"{', '.join(batch)}. Set datamodule.batch_format=mtx, or datamodule.batch_format=flat"
            )
        if schema is FLAT:
            return flat_hidden_states(self.network, batch)
        states = self.network(batch["encoder_input_ids"], batch["encoder_attn_mask"], batch["decoder_input_ids"])
        return cast(Tensor, states)

    def _label_states(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the hidden states at real labels, float [N, D], these labels, int64 [N], and their number by pair.

        Logits are the most expensive part of the model, so they are not computed for padding, which the mask marks.
        """
        hidden = self._hidden_states(batch)
        if is_flat(batch):
            return hidden, batch["labels"], batch["decoder_offsets"].long().diff()
        real = batch["decoder_attn_mask"]
        return hidden[real], batch["labels"][real], real.sum(dim=1)

    def _reset_sums(self, names: list[str]) -> None:
        self._sums = {name: LikelihoodSums() for name in names}
        self.pair_likelihoods = {name: PairLikelihoods() for name in names}

    def _add_to_sums(self, batch: Batch, split: str) -> None:
        nll, num_labels = self._pair_nll(batch)
        num_bytes = self._num_target_bytes(batch["row_ids"], split)
        self._sums[split].add(float(nll.sum()), num_labels, None if num_bytes is None else int(num_bytes.sum()))
        if num_bytes is not None:
            self.pair_likelihoods[split].add(batch["row_ids"], nll, num_bytes)

    def _num_target_bytes(self, row_ids: Tensor, split: str) -> Tensor | None:
        count = getattr(getattr(self.trainer, "datamodule", None), "num_target_bytes", None)
        if count is not None:
            return cast(Tensor, count(row_ids.cpu(), split))
        if not self._has_warned_of_bytes:
            self._has_warned_of_bytes = True
            rank_zero_warn(
                "bits per byte are not logged, because the data module has no method num_target_bytes(row_ids, split), "
                "which returns the number of bytes of target texts. mtx's data module has this method: "
                "trainer.fit(model, datamodule=dm)"
            )
        return None

    def _validation_sets(self) -> list[str]:
        """Return the names of the validation sets in the order of their loaders."""
        names = getattr(getattr(self.trainer, "datamodule", None), "val_names", None)
        if names is not None:
            return list(names)
        others = [str(number) for number in range(1, len(self.trainer.num_val_batches))]  # numbers as names
        return ["validation", *others]

    def _log_sums(self, name: str, *prefixes: str) -> None:
        sums = self._sums[name]
        if self.trainer.world_size > 1:
            total = self.trainer.strategy.reduce(sums.as_tensor(self.device), reduce_op="sum")
            sums = LikelihoodSums.from_tensor(cast(Tensor, total))
        for metric, value in (("loss", sums.loss), ("bits_per_byte", sums.bits_per_byte)):
            for prefix in prefixes if value is not None else ():
                # All ranks log the same value; without sync_dist, Lightning would warn.
                in_bar = prefix in ("val", "test")
                self.log(f"{prefix}/{metric}", cast(float, value), prog_bar=in_bar, sync_dist=True, batch_size=1)

    def _learning_rate_factor(self, step: int) -> float:
        """Return the factor on `learning_rate` at the optimizer step `step`, counted from 0."""
        return min((step + 1) / self.warmup_steps, math.sqrt(self.warmup_steps / (step + 1)))
