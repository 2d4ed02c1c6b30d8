"""One rank of transformers' Trainer with mtx's loader: writes the pairs of each batch. `try_tools.py` starts it.

The arguments are the overrides as JSON, the output folder, the number of steps, the number of steps between checkpoints
(with which the run also stops if it is the number of steps), and `new` or the checkpoint to resume from.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments

import mtx

SIZES = {"layers": 1, "ffn_dim": 8, "attention_heads": 1}


def main(overrides: list[str], folder: Path, steps: int, save_steps: int, resume: str) -> None:
    dm = mtx.compose_datamodule([*overrides, "datamodule.batch_format=huggingface"])
    dm.prepare_data()  # ranks wait for the first one that builds
    dm.setup("fit")
    facts = dm.facts()
    rank = int(os.environ["RANK"])
    folder.mkdir(exist_ok=True)

    class Trainer(Seq2SeqTrainer):
        def get_train_dataloader(self) -> Any:
            return dm.train_dataloader()

        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            with (folder / f"rank{rank}.jsonl").open("a") as file:
                file.write(json.dumps(pairs_of(inputs)) + "\n")
            return super().compute_loss(model, inputs, *rest, **more)

    config = MarianConfig(
        vocab_size=facts["target_vocab_size"],
        pad_token_id=facts["pad_id"],
        eos_token_id=facts["eos_id"],
        decoder_start_token_id=facts["bos_id"],
        d_model=8,
        **{f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIZES.items()},
    )
    options = {"use_cpu": True, "disable_tqdm": True, "report_to": []}
    arguments = Seq2SeqTrainingArguments(str(folder), max_steps=steps, save_steps=save_steps, **options)
    trainer = Trainer(MarianMTModel(config), arguments)
    trainer.train(resume_from_checkpoint=None if resume == "new" else resume)
    if rank == 0:
        loader = dm.train_dataloader()
        length = len(loader)
        loader.batch_sampler.set_rank(0, 1)
        pairs = [pair for batch in loader for pair in pairs_of(batch)]
        assert len(set(pairs)) == len(pairs) == len(loader.dataset)
        (folder / "facts.json").write_text(json.dumps({"length": length, "pairs": sorted(pairs)}))
    dist.barrier()


def pairs_of(batch: dict[str, Any]) -> list[str]:
    """Return each pair of a batch as a text of its token ids; batches for models have no row numbers."""
    sides = zip(batch["input_ids"].tolist(), batch["attention_mask"].tolist(), batch["labels"].tolist(), strict=True)
    return [
        " ".join(str(token) for token in [*ids[: sum(mask)], "|", *(label for label in labels if label >= 0)])
        for ids, mask, labels in sides
    ]


if __name__ == "__main__":
    given = sys.argv[1:]
    main(json.loads(given[0]), Path(given[1]), int(given[2]), int(given[3]), given[4])
