"""Shows a transformers sequence-to-sequence model with all figures of mtx: bits per byte, BLEU, contrastive accuracy.

Install transformers. Then train with a plain Trainer, or with the mtx command, in this folder:

    pip install transformers
    python marian.py
    python marian.py 30 downloader.n=2000
    mtx task=fit model=own model._target_=marian.Marian +model.d_model=128
    mtx task=translate model=own model._target_=marian.Marian ckpt=best.ckpt input=text.en output=text.de

The batches have mtx's format, whose `row_ids` the held-out figures need. The program prints the held-out bits per byte
of the last validation. To start from a pretrained model, replace `MarianMTModel(config)` by
`MarianMTModel.from_pretrained(FOLDER)`, and train on its vocabulary with `tokenizer=pretrained`.
"""

import sys

import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

import mtx
from mtx.evaluation import log_held_out
from mtx.evaluation.held_out_bits import pair_likelihood


class Marian(pl.LightningModule):
    """A Marian model, built from a config. mtx fills in the vocabulary, the special ids and the largest lengths."""

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        joint_vocabulary: bool = True,
        max_source_tokens: int | None = None,
        max_target_tokens: int | None = None,
        d_model: int = 64,
        num_layers: int = 2,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        config = MarianConfig(
            vocab_size=source_vocab_size,
            decoder_vocab_size=target_vocab_size,
            share_encoder_decoder_embeddings=joint_vocabulary,
            pad_token_id=pad_id,
            bos_token_id=bos_id,
            eos_token_id=eos_id,
            decoder_start_token_id=bos_id,  # mtx's decoder_input_ids begin with BOS
            forced_eos_token_id=None,
            max_position_embeddings=max(max_source_tokens or 512, max_target_tokens or 512),
            d_model=d_model,
            encoder_layers=num_layers,
            decoder_layers=num_layers,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=2 * d_model,
            decoder_ffn_dim=2 * d_model,
            scale_embedding=True,
        )
        self.model = MarianMTModel(config)
        self.pad_id, self.bos_id, self.eos_id, self.learning_rate = pad_id, bos_id, eos_id, learning_rate

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        found = self.model(
            input_ids=batch["encoder_input_ids"],
            attention_mask=batch["encoder_attn_mask"],
            decoder_input_ids=batch["decoder_input_ids"],
            use_cache=False,
        )
        return found.logits

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        labels = batch["labels"].masked_fill(~batch["decoder_attn_mask"], -100)
        loss = torch.nn.functional.cross_entropy(self(batch).flatten(0, 1), labels.flatten())
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int, dataloader_idx: int = 0) -> None:
        log_held_out(self, batch, self(batch), index, dataloader_idx)

    @torch.inference_mode()
    def target_nats(self, batch: dict[str, Tensor]) -> Tensor:
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        return pair_likelihood(batch, self.eval()(batch)).nats

    @torch.inference_mode()
    def translate(self, batch: dict[str, Tensor], max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        found = self.model.eval().generate(
            batch["encoder_input_ids"].to(self.device),
            attention_mask=batch["encoder_attn_mask"].to(self.device),
            num_beams=beam,
            do_sample=False,
            max_new_tokens=max_tokens,
        )
        return [self._until_eos(ids[1:]) for ids in found.tolist()]  # the first id is BOS

    def _until_eos(self, ids: list[int]) -> list[int]:
        kept = ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids
        return [each for each in kept if each not in (self.pad_id, self.bos_id)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)


def main(max_steps: int = 100, overrides: tuple[str, ...] = ()) -> dict[str, float]:
    pl.seed_everything(0)
    dm = mtx.compose_datamodule(["sampler.max_tokens=1024", *overrides])
    dm.prepare_data()
    dm.setup("fit")
    names = ("source_vocab_size", "target_vocab_size", "pad_id", "bos_id", "eos_id", "joint_vocabulary")
    lengths = ("max_source_tokens", "max_target_tokens")
    model = Marian(**{name: dm.facts()[name] for name in (*names, *lengths)})
    trainer = pl.Trainer(max_steps=max_steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, datamodule=dm)
    (found,) = trainer.validate(model, datamodule=dm, verbose=False)
    print(f"held-out bits per byte after {trainer.global_step} steps: {found['val/bits_per_byte']:.3f}")
    return dict(found)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, tuple(sys.argv[2:]))
