"""Shows a decoder-only model with LoRA: source and target are one sequence, and the loss counts the target alone.

Install transformers and peft. Then train with a plain Trainer, or with the mtx command, in this folder:

    pip install transformers peft
    python lora.py
    python lora.py 30 downloader.n=2000
    mtx task=fit model=own model._target_=lora.DecoderOnly +model.rank=16

The model is small and begins with random weights, so its embeddings are trained, too. To start from a pretrained model,
replace `GPT2LMHeadModel(config)` by `AutoModelForCausalLM.from_pretrained(FOLDER)`, leave its embeddings frozen, and
train on its vocabulary with `tokenizer=pretrained`. The program prints the held-out bits per byte, which are comparable
with those of an encoder-decoder model.
"""

import sys

import pytorch_lightning as pl
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import mtx
from mtx.errors import ConfigError
from mtx.evaluation import log_held_out
from mtx.evaluation.held_out_bits import pair_likelihood


class DecoderOnly(pl.LightningModule):
    """GPT-2 with LoRA adapters on its attention. It needs a joint vocabulary, which is mtx's default."""

    def __init__(
        self,
        target_vocab_size: int,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        joint_vocabulary: bool = True,
        d_model: int = 64,
        num_layers: int = 2,
        rank: int = 8,
        learning_rate: float = 3e-3,
    ) -> None:
        super().__init__()
        if not joint_vocabulary:
            raise ConfigError("a decoder-only model needs one vocabulary. Set datamodule.joint_vocabulary=true")
        self.save_hyperparameters()
        config = GPT2Config(
            vocab_size=target_vocab_size,
            n_positions=1024,
            n_embd=d_model,
            n_layer=num_layers,
            n_head=4,
            pad_token_id=pad_id,
            bos_token_id=bos_id,
            eos_token_id=eos_id,
        )
        adapters = LoraConfig(r=rank, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
        self.model = get_peft_model(GPT2LMHeadModel(config), adapters)
        self.model.get_input_embeddings().requires_grad_(True)
        self.pad_id, self.bos_id, self.eos_id, self.learning_rate = pad_id, bos_id, eos_id, learning_rate

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits [B, S + T, V] and their labels [B, S + T], -100 at the source and at padding."""
        ids = torch.cat([batch["encoder_input_ids"], batch["decoder_input_ids"]], dim=1)
        real = torch.cat([batch["encoder_attn_mask"], batch["decoder_attn_mask"]], dim=1)
        targets = batch["labels"].masked_fill(~batch["decoder_attn_mask"], -100)
        labels = torch.cat([torch.full_like(batch["encoder_input_ids"], -100), targets], dim=1)
        order = (~real).int().argsort(dim=1, stable=True)  # real positions first, so that all padding is on the right
        ids, real, labels = (each.gather(1, order) for each in (ids, real, labels))
        return self.model(input_ids=ids, attention_mask=real.long(), use_cache=False).logits, labels

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        logits, labels = self(batch)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int, dataloader_idx: int = 0) -> None:
        logits, labels = self(batch)
        log_held_out(self, batch, logits, index, dataloader_idx, labels=labels)

    @torch.inference_mode()
    def target_nats(self, batch: dict[str, Tensor]) -> Tensor:
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        return pair_likelihood(batch, *self.eval()(batch)).nats

    @torch.inference_mode()
    def translate(self, batch: dict[str, Tensor], max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        ids, real = (batch[name].to(self.device) for name in ("encoder_input_ids", "encoder_attn_mask"))
        order = real.int().argsort(dim=1, stable=True)  # real positions last, so that BOS follows the source
        bos = torch.full((len(ids), 1), self.bos_id, device=ids.device)
        prompt = torch.cat([ids.gather(1, order), bos], dim=1)
        mask = torch.cat([real.gather(1, order), torch.ones_like(bos, dtype=torch.bool)], dim=1)
        found = self.model.eval().generate(
            input_ids=prompt, attention_mask=mask.long(), num_beams=beam, do_sample=False, max_new_tokens=max_tokens
        )
        return [self._until_eos(each) for each in found[:, prompt.shape[1] :].tolist()]

    def _until_eos(self, ids: list[int]) -> list[int]:
        kept = ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids
        return [each for each in kept if each not in (self.pad_id, self.bos_id)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([each for each in self.parameters() if each.requires_grad], lr=self.learning_rate)


def main(max_steps: int = 100, overrides: tuple[str, ...] = ()) -> dict[str, float]:
    pl.seed_everything(0)
    dm = mtx.compose_datamodule(["sampler.max_tokens=1024", *overrides])
    dm.prepare_data()
    dm.setup("fit")
    names = ("target_vocab_size", "pad_id", "bos_id", "eos_id", "joint_vocabulary")
    model = DecoderOnly(**{name: dm.facts()[name] for name in names})
    trainer = pl.Trainer(max_steps=max_steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, datamodule=dm)
    (found,) = trainer.validate(model, datamodule=dm, verbose=False)
    print(f"held-out bits per byte after {trainer.global_step} steps: {found['val/bits_per_byte']:.3f}")
    return dict(found)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, tuple(sys.argv[2:]))
