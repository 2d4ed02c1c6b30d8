"""Shows a decoder-only model with LoRA: prompt and target are one sequence, and the loss counts the target alone.

Install transformers and peft. Then train with a plain Trainer, or with the mtx command, in this folder:

    pip install transformers peft
    python lora.py
    python lora.py 30 downloader.n=2000
    mtx task=fit model=own model._target_=lora.DecoderOnly datamodule.batch_format=causal sampler=packed_rows

The model is small and begins with random weights, so its embeddings are trained, too. To start from a pretrained model,
replace `LlamaForCausalLM(config)` by `AutoModelForCausalLM.from_pretrained(FOLDER)`, leave its embeddings frozen, and
train on its vocabulary with `tokenizer=pretrained`. The program prints the held-out bits per byte, which are comparable
with those of an encoder-decoder model.
"""

import sys

import pytorch_lightning as pl
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import mtx
from mtx.batches.collate_causal import model_inputs, prompt_inputs
from mtx.evaluation import log_held_out
from mtx.evaluation.held_out_bits import pair_likelihood


class DecoderOnly(pl.LightningModule):
    """A Llama model with LoRA adapters on its attention."""

    batch_formats = ("causal",)

    def __init__(
        self,
        target_vocab_size: int,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        forced_target_tokens: int = 0,
        d_model: int = 64,
        num_layers: int = 2,
        rank: int = 8,
        learning_rate: float = 3e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        config = LlamaConfig(
            vocab_size=target_vocab_size,
            hidden_size=d_model,
            intermediate_size=4 * d_model,
            num_hidden_layers=num_layers,
            num_attention_heads=4,
            pad_token_id=pad_id,
            bos_token_id=bos_id,
            eos_token_id=eos_id,
        )
        adapters = LoraConfig(r=rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        self.model = get_peft_model(LlamaForCausalLM(config), adapters)
        self.model.get_input_embeddings().requires_grad_(True)
        self.pad_id, self.bos_id, self.eos_id, self.learning_rate = pad_id, bos_id, eos_id, learning_rate
        self.forced = {"forced_target_tokens": forced_target_tokens}

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        loss = self.model(**model_inputs(batch)).loss
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int, dataloader_idx: int = 0) -> None:
        logits = self.model(**model_inputs(batch)).logits
        log_held_out(self, batch, logits, index, dataloader_idx)

    @torch.inference_mode()
    def target_nats(self, batch: dict[str, Tensor]) -> Tensor:
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        return pair_likelihood(batch, self.eval().model(**model_inputs(batch)).logits, **self.forced).nats

    @torch.inference_mode()
    def translate(self, batch: dict[str, Tensor], max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        prompts = prompt_inputs({name: tensor.to(self.device) for name, tensor in batch.items()}, **self.forced)
        found = self.model.eval().generate(**prompts, num_beams=beam, do_sample=False, max_new_tokens=max_tokens)
        return [self._until_eos(each) for each in found[:, prompts["input_ids"].shape[1] :].tolist()]

    def _until_eos(self, ids: list[int]) -> list[int]:
        kept = ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids
        return [each for each in kept if each not in (self.pad_id, self.bos_id)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([each for each in self.parameters() if each.requires_grad], lr=self.learning_rate)


def main(max_steps: int = 100, overrides: tuple[str, ...] = ()) -> dict[str, float]:
    pl.seed_everything(0)
    rows = ["datamodule.batch_format=causal", "sampler=packed_rows", "sampler.row_tokens=512", "sampler.num_rows=4"]
    dm = mtx.compose_datamodule([*rows, *overrides])
    dm.prepare_data()
    dm.setup("fit")
    names = ("target_vocab_size", "pad_id", "bos_id", "eos_id")
    model = DecoderOnly(**{name: dm.facts()[name] for name in names})
    trainer = pl.Trainer(max_steps=max_steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, datamodule=dm)
    (found,) = trainer.validate(model, datamodule=dm, verbose=False)
    print(f"held-out bits per byte after {trainer.global_step} steps: {found['val/bits_per_byte']:.3f}")
    return dict(found)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, tuple(sys.argv[2:]))
