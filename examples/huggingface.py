"""Shows how a transformers sequence-to-sequence model trains on mtx's batches, without any conversion.

With `datamodule.batch_format=huggingface`, the tensors of a batch have the names that transformers uses, so
`model(**batch)` works. Install transformers, then run 100 steps, or the given number of steps:

    pip install transformers
    python examples/huggingface.py
    python examples/huggingface.py 30 downloader.n=2000

The program prints the training loss at the end.
"""

import sys

import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

import mtx


class Marian(pl.LightningModule):
    """Call a Marian model on each batch, and train on the loss that the model returns."""

    def __init__(self, config: MarianConfig) -> None:
        super().__init__()
        self.model = MarianMTModel(config)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        loss: Tensor = self.model(**batch).loss
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        self.log("val_loss", self.model(**batch).loss, prog_bar=True, batch_size=len(batch["labels"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(max_steps: int = 100, overrides: tuple[str, ...] = ()) -> float:
    pl.seed_everything(0)
    dm = mtx.compose_datamodule(["datamodule.batch_format=huggingface", "sampler.max_tokens=1024", *overrides])
    dm.prepare_data()
    dm.setup("fit")
    facts = dm.facts()
    config = MarianConfig(
        vocab_size=facts["target_vocab_size"],
        pad_token_id=facts["pad_id"],
        bos_token_id=facts["bos_id"],
        eos_token_id=facts["eos_id"],
        decoder_start_token_id=facts["bos_id"],  # mtx's decoder_input_ids begin with BOS
        max_position_embeddings=max(facts["max_source_tokens"], facts["max_target_tokens"]),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
    )
    trainer = pl.Trainer(max_steps=max_steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Marian(config), datamodule=dm)
    loss = float(trainer.callback_metrics["loss"])
    print(f"training loss after {trainer.global_step} steps, nats a token: {loss:.3f}")
    return loss


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, tuple(sys.argv[2:]))
