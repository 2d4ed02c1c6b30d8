"""The reference model: what mtx trains when nobody names another LightningModule.

Takes the batches of `TranslationDataModule`, logs `train/loss`, `val/loss` and `val/bits_per_byte`, for several
validation sets also `val/NAME/loss` and `val/NAME/bits_per_byte`. All its settings are plain numbers, so a checkpoint
holds them and loads without any other file.

B pairs, S source and T target positions, N real labels of a batch, V target vocabulary.
"""

import math
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mtx.callbacks.token_mean import TokenMeanGradients
from mtx.errors import ConfigError, DataError
from mtx.training.bits import LikelihoodSums
from mtx.training.transformer import Transformer
from mtx.training.translate import beam_search

Batch = dict[str, Tensor]

NEEDED = ("encoder_input_ids", "encoder_attn_mask", "decoder_input_ids", "decoder_attn_mask", "labels", "row_ids")
LOGITS_AT_ONCE = 2**25  # of held-out text, 128 MB in float32; the rest waits


class TransformerTranslator(pl.LightningModule):
    """A compact encoder-decoder Transformer that learns to translate.

    Trained with AdamW on the mean loss per real label, with a learning rate that rises over `warmup_steps` and then
    falls with the inverse square root of the step. Accumulated batches and ranks of unequal size give the gradient of
    one big batch. `task=fit` fills in the first six from the data.

    Args:
        source_vocab_size: tokens of the source vocabulary.
        target_vocab_size: tokens of the target vocabulary.
        pad_id: id that fills up targets.
        bos_id: id that opens the decoder's input.
        eos_id: id that ends a target.
        joint_vocabulary: both sides have the same vocabulary and share one embedding.
        d_model: width of the hidden states.
        num_heads: attention heads; a divisor of `d_model`.
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder.
        dim_feedforward: width inside the feed-forward layers.
        dropout: share of activations set to zero in training.
        activation: of the feed-forward layers.
        max_positions: longest sequence, in tokens, BOS or EOS included.
        label_smoothing: share of the probability that the training loss spreads over the whole vocabulary.
        learning_rate: the highest, reached at the end of warm-up.
        warmup_steps: optimizer steps over which the learning rate rises.
        weight_decay: of weight matrices; embeddings, norms and biases have none.

    Raises ConfigError where these do not go together.
    """

    def __init__(
        self,
        *,
        source_vocab_size: int,
        target_vocab_size: int,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        joint_vocabulary: bool = False,
        d_model: int = 256,
        num_heads: int = 4,
        num_encoder_layers: int = 3,
        num_decoder_layers: int = 3,
        dim_feedforward: int = 1024,
        dropout: float = 0.1,
        activation: Literal["relu", "gelu"] = "gelu",
        max_positions: int = 1024,
        label_smoothing: float = 0.1,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        if warmup_steps < 1:
            raise ConfigError(f"model.warmup_steps is at least 1, but is {warmup_steps}")
        self.save_hyperparameters()
        self.pad_id = pad_id
        self.bos_id = bos_id
        self.eos_id = eos_id
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
        self._sums: dict[str, LikelihoodSums] = {}  # by the name of the set
        self._told_of_bytes = False

    def setup(self, stage: str) -> None:
        """Refuse data with sentences that are too long for the model, before any step. Raises ConfigError."""
        facts: dict[str, Any] = getattr(getattr(self.trainer, "datamodule", None), "facts", dict)()
        for key in ("max_source_tokens", "max_target_tokens"):
            longest = facts.get(key) or 0
            if longest > self.network.max_positions:
                raise ConfigError(
                    f"the model takes at most model.max_positions={self.network.max_positions} tokens, but "
                    f"datamodule.{key} lets {longest} through. Raise the first or lower the second"
                )

    def forward(self, batch: Batch) -> Tensor:
        """Return the scores of the next token at all target positions, float [B, T, V]."""
        return self.network.logits(self._hidden(batch))

    def loss(self, batch: Batch) -> Tensor:
        """Return what training minimises: the mean loss per real label, with label smoothing, in nats."""
        hidden, labels = self._at_labels(batch)
        logits = self.network.logits(hidden).float()
        total = nn.functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="sum")
        return total / max(len(labels), 1)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Bring along what weighs losses by tokens, over accumulated batches and over ranks."""
        return [TokenMeanGradients()]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log and return the loss of a batch."""
        loss = self.loss(batch)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin new sums, one for each validation set."""
        self._sums = {name: LikelihoodSums() for name in self._validation_sets()}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add a batch to the sums over the held-out text that it is from."""
        self._add(batch, list(self._sums)[dataloader_idx])

    def on_validation_epoch_end(self) -> None:
        """Log `val/loss` and `val/bits_per_byte`, over all batches of all ranks.

        Where there are several sets, these are of the first one, and each has `val/NAME/loss` and
        `val/NAME/bits_per_byte`, too.
        """
        first, *others = self._sums
        self._log_sums(first, "val", *([f"val/{first}"] if others else []))
        for name in others:
            self._log_sums(name, f"val/{name}")

    def on_test_epoch_start(self) -> None:
        """Begin new sums."""
        self._sums = {"test": LikelihoodSums()}

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the sums over test text."""
        self._add(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log `test/loss` and `test/bits_per_byte`, over all batches of all ranks."""
        self._log_sums("test", "test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW and a learning rate that changes with each step."""
        embeddings = {id(m.weight) for m in self.network.modules() if isinstance(m, nn.Embedding)}
        decayed = [p for p in self.parameters() if p.dim() > 1 and id(p) not in embeddings]
        others = [p for p in self.parameters() if p.dim() <= 1 or id(p) in embeddings]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.98), eps=1e-9)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @torch.inference_mode()
    def translate(self, batch: Batch, max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        """Translate the sources of a batch by beam search.

        Args:
            batch: with `encoder_input_ids` int64 [B, S] and `encoder_attn_mask` bool [B, S].
            max_tokens: translations end after so many tokens, also without EOS; at most `max_positions`.
            beam: hypotheses kept of each sentence; 1: each next token is the likeliest one.

        Returns:
            The ids of each translation, in the batch's order, without BOS and EOS.
        """
        was_training = self.training
        self.eval()
        mask = batch["encoder_attn_mask"].to(self.device)
        memory = self.network.encode(batch["encoder_input_ids"].to(self.device), mask)

        def next_scores(tokens: Tensor, sentences: Tensor) -> Tensor:
            return self.network.logits(self.network.decode(tokens, memory[sentences], mask[sentences])[:, -1])

        found = beam_search(
            next_scores,
            max_tokens=torch.full((len(mask),), min(max_tokens, self.network.max_positions), device=self.device),
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            beam=beam,
            never=sorted({self.pad_id, self.bos_id} - {self.eos_id}),
        )
        self.train(was_training)
        return found

    def _hidden(self, batch: Batch) -> Tensor:
        missing = [name for name in NEEDED if name not in batch]
        if missing:
            raise DataError(
                f"a batch lacks {', '.join(missing)}; it has {', '.join(batch)}. "
                "The reference model takes batches as datamodule.batch_format=mtx makes them"
            )
        states = self.network(batch["encoder_input_ids"], batch["encoder_attn_mask"], batch["decoder_input_ids"])
        return cast(Tensor, states)

    def _at_labels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the hidden states at real labels, float [N, D], and these labels, int64 [N].

        The scores over the vocabulary are the dearest part of the model; padding does not get that far. The mask
        says which labels are real, whatever id fills up the others.
        """
        hidden = self._hidden(batch)
        real = batch["decoder_attn_mask"]
        return hidden[real], batch["labels"][real]

    def _add(self, batch: Batch, split: str) -> None:
        hidden, labels = self._at_labels(batch)
        at_once = max(1, LOGITS_AT_ONCE // self.network.target_embedding.num_embeddings)
        nll = 0.0
        for part, wanted in zip(torch.split(hidden, at_once), torch.split(labels, at_once), strict=True):
            logits = self.network.logits(part).float()
            nll += nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
        self._sums[split].add(nll, len(labels), self._num_target_bytes(batch["row_ids"], split))

    def _num_target_bytes(self, row_ids: Tensor, split: str) -> int | None:
        count = getattr(getattr(self.trainer, "datamodule", None), "num_target_bytes", None)
        if count is not None:
            return int(count(row_ids.cpu(), split).sum())
        if not self._told_of_bytes:
            self._told_of_bytes = True
            rank_zero_warn(
                "bits per byte are not logged: they need the number of bytes of the target texts, which a data "
                "module says in num_target_bytes(row_ids, split). mtx's own has it: trainer.fit(model, datamodule=dm)"
            )
        return None

    def _validation_sets(self) -> list[str]:
        """Return the names of the validation sets, by the number of their loader."""
        names = getattr(getattr(self.trainer, "datamodule", None), "val_names", None)
        if names is not None:
            return list(names)
        others = [str(number) for number in range(1, len(self.trainer.num_val_batches))]  # loaders without names
        return ["validation", *others]

    def _log_sums(self, name: str, *prefixes: str) -> None:
        sums = self._sums[name]
        if self.trainer.world_size > 1:
            total = self.trainer.strategy.reduce(sums.as_tensor(self.device), reduce_op="sum")
            sums = LikelihoodSums.from_tensor(cast(Tensor, total))
        for metric, value in (("loss", sums.loss), ("bits_per_byte", sums.bits_per_byte)):
            for prefix in prefixes if value is not None else ():
                # All ranks log the same; sync_dist tells Lightning that nothing is amiss.
                in_bar = prefix in ("val", "test")
                self.log(f"{prefix}/{metric}", cast(float, value), prog_bar=in_bar, sync_dist=True, batch_size=1)

    def _share_of_learning_rate(self, step: int) -> float:
        """Return what part of `learning_rate` the optimizer's step `step`, from 0, takes."""
        return min((step + 1) / self.warmup_steps, math.sqrt(self.warmup_steps / (step + 1)))
