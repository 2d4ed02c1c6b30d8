"""Shows LightningCLI with mtx's data: the overrides of mtx's config are an argument of the command line.

    pip install 'jsonargparse[signatures]'
    python examples/lightning_cli.py fit --trainer.max_steps 20 --data.overrides '["sampler.max_tokens=1024"]'
    python examples/lightning_cli.py fit --print_config

`LightningCLI(Next, mtx.TranslationDataModule)` works, too: each argument of the data module is then an argument of the
command line. With the package `lightning`, import `lightning.pytorch` before mtx.
"""

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningCLI
from torch import Tensor, nn

import mtx


class Next(pl.LightningModule):
    """Predict each target token from the token before it."""

    def __init__(self, width: int = 32, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.width = width
        self.learning_rate = learning_rate

    def configure_model(self) -> None:
        vocab_size = self.trainer.datamodule.facts()["target_vocab_size"]
        self.scores = nn.Sequential(nn.Embedding(vocab_size, self.width), nn.Linear(self.width, vocab_size))

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        scores = self.scores(batch["decoder_input_ids"]).flatten(0, 1)
        loss = nn.functional.cross_entropy(scores, batch["labels"].flatten())
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


if __name__ == "__main__":
    LightningCLI(Next, mtx.compose_datamodule)
