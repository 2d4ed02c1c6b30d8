"""Shows transformers models on batches without padding, in which pairs do not mix: Marian, and Llama.

Install transformers. Then train with a plain Trainer, or with the mtx command, in this folder:

    pip install transformers
    python packed_transformers.py
    python packed_transformers.py 30 downloader.n=2000
    mtx task=fit model=own model._target_=packed_transformers.Packed +model.kind=llama \
        datamodule.batch_format=huggingface_packed sampler=random_tokens

`packed_outputs` calls models with and without an encoder. Before the first step, it checks that a change of one pair
leaves the losses of the others as they are. To start from a pretrained model, replace `model_of(…)` by
`AutoModelForSeq2SeqLM.from_pretrained(FOLDER)` or `AutoModelForCausalLM.from_pretrained(FOLDER)`, and train on its
vocabulary with `tokenizer=pretrained`. The program prints the held-out bits per byte of the last validation.
"""

import sys
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, MarianConfig, MarianMTModel

import mtx
from mtx.batches.collate_flat import padded_sources
from mtx.evaluation import log_held_out
from mtx.training.packed_batch_outputs import packed_outputs, packed_pair_nats


class Packed(pl.LightningModule):
    """A Marian or Llama model, built from a config, for one vocabulary of both sides, which is mtx's default."""

    batch_formats = ("huggingface_packed",)

    def __init__(
        self,
        target_vocab_size: int,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        max_source_tokens: int | None = None,
        max_target_tokens: int | None = None,
        kind: str = "marian",
        d_model: int = 64,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        ids = {"pad_token_id": pad_id, "bos_token_id": bos_id, "eos_token_id": eos_id}
        positions = (max_source_tokens or 512) + (max_target_tokens or 512)
        self.model = model_of(kind, d_model, vocab_size=target_vocab_size, max_position_embeddings=positions, **ids)
        self.pad_id, self.bos_id, self.eos_id, self.learning_rate = pad_id, bos_id, eos_id, learning_rate

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        loss: Tensor = packed_outputs(self.model, batch).loss
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int, dataloader_idx: int = 0) -> None:
        log_held_out(self, batch, packed_outputs(self.model, batch).logits, index, dataloader_idx)

    @torch.inference_mode()
    def target_nats(self, batch: dict[str, Tensor]) -> Tensor:
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        return packed_pair_nats(packed_outputs(self.eval().model, batch).logits, batch)

    @torch.inference_mode()
    def translate(self, batch: dict[str, Tensor], max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        ids, mask = (each.to(self.device) for each in padded_sources(batch, self.pad_id))
        first = torch.full((len(ids), 1), self.bos_id, device=self.device)
        given = {"decoder_input_ids": first}
        if not self.model.config.is_encoder_decoder:  # BOS follows the source, so padding is on the left
            order = mask.int().argsort(dim=1, stable=True)
            ids, mask, given = (
                torch.cat([ids.gather(1, order), first], dim=1),
                torch.cat([mask.gather(1, order), torch.ones_like(first, dtype=torch.bool)], dim=1),
                {},
            )
        options = {"num_beams": beam, "do_sample": False, "max_new_tokens": max_tokens}
        found = self.model.eval().generate(ids, attention_mask=mask.long(), **given, **options)
        start = 1 if given else ids.shape[1]
        return [self._until_eos(each) for each in found[:, start:].tolist()]

    def _until_eos(self, ids: list[int]) -> list[int]:
        kept = ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids
        return [each for each in kept if each not in (self.pad_id, self.bos_id)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)


def model_of(kind: str, width: int, **options: Any) -> Any:
    """Return a small model of two layers."""
    if kind == "llama":
        sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 4}
        return LlamaForCausalLM(LlamaConfig(**options, **sizes))
    sides = {"layers": 2, "attention_heads": 4, "ffn_dim": 2 * width}
    named = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sides.items()}
    start = {"decoder_start_token_id": options["bos_token_id"], "forced_eos_token_id": None}
    return MarianMTModel(MarianConfig(**options, **named, **start, d_model=width, scale_embedding=True))


def main(max_steps: int = 100, overrides: tuple[str, ...] = ()) -> dict[str, float]:
    pl.seed_everything(0)
    unpadded = ["datamodule.batch_format=huggingface_packed", "sampler=random_tokens", "sampler.real_tokens=2048"]
    dm = mtx.compose_datamodule([*unpadded, *overrides])
    dm.prepare_data()
    dm.setup("fit")
    names = ("target_vocab_size", "pad_id", "bos_id", "eos_id", "max_source_tokens", "max_target_tokens")
    model = Packed(**{name: dm.facts()[name] for name in names})
    trainer = pl.Trainer(max_steps=max_steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, datamodule=dm)
    (found,) = trainer.validate(model, datamodule=dm, verbose=False)
    print(f"held-out bits per byte after {trainer.global_step} steps: {found['val/bits_per_byte']:.3f}")
    return dict(found)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, tuple(sys.argv[2:]))
