"""Shows how your own LightningModule trains on mtx's batches: a plain Trainer and three lines of mtx.

Run 200 steps, or the given number of steps, with any overrides of mtx's config:

    python examples/own_model.py
    python examples/own_model.py 100 downloader=local downloader.path=corpus.jsonl.gz

The default corpus is the sample that is installed with mtx. The program prints the validation loss at the end.
"""

import sys

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import mtx


class Bags(pl.LightningModule):
    """Predict each target token from the token before it and the mean of the source embeddings: short, not good."""

    def __init__(self, source_vocab_size: int, target_vocab_size: int, pad_id: int, width: int = 64) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.source = nn.Embedding(source_vocab_size, width)
        self.before = nn.Embedding(target_vocab_size, width)
        self.out = nn.Linear(width, target_vocab_size)
        self.loss = nn.CrossEntropyLoss(ignore_index=pad_id)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        real = batch["encoder_attn_mask"].unsqueeze(-1)
        mean = (self.source(batch["encoder_input_ids"]) * real).sum(dim=1) / real.sum(dim=1)
        return self.out(torch.tanh(self.before(batch["decoder_input_ids"]) + mean.unsqueeze(1)))

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        loss = self.loss(self(batch).flatten(0, 1), batch["labels"].flatten())
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        loss = self.loss(self(batch).flatten(0, 1), batch["labels"].flatten())
        num_tokens = int(batch["decoder_attn_mask"].sum())  # Lightning then averages over tokens, not batches
        self.log("val_loss", loss, batch_size=num_tokens)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(max_steps: int = 200, overrides: tuple[str, ...] = ()) -> dict[str, float]:
    pl.seed_everything(0)
    dm = mtx.compose_datamodule(["sampler.max_tokens=2048", *overrides])
    dm.prepare_data()
    dm.setup("fit")  # a Trainer calls both methods itself; here the model needs the vocabulary sizes first
    facts = dm.facts()
    model = Bags(facts["source_vocab_size"], facts["target_vocab_size"], facts["pad_id"])
    trainer = pl.Trainer(max_steps=max_steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, datamodule=dm)
    (after,) = trainer.validate(model, datamodule=dm, verbose=False)
    print(f"validation loss, nats a token: {after['val_loss']:.3f}")
    return dict(after)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, tuple(sys.argv[2:]))
