"""Shows the Trainer of transformers on mtx's batches: it trains, and resumes within an epoch with the next batch.

    pip install transformers accelerate
    python examples/transformers_trainer.py 20 OUTPUT_FOLDER
    python examples/transformers_trainer.py 30 OUTPUT_FOLDER resume

The arguments are the number of steps, the folder of the checkpoints, `resume` to continue from the last checkpoint, and
overrides of mtx's config. The program prints the training loss.
"""

import sys
from typing import Any

from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments

import mtx


class Trainer(Seq2SeqTrainer):
    """A Trainer whose training loader is mtx's."""

    def __init__(self, dm: Any, **options: Any) -> None:
        self.dm = dm
        super().__init__(**options)

    def get_train_dataloader(self) -> Any:
        return self.dm.train_dataloader()


def main(max_steps: int, folder: str, *, resume: bool = False, overrides: tuple[str, ...] = ()) -> float:
    dm = mtx.compose_datamodule(["datamodule.batch_format=huggingface", "sampler.max_tokens=1024", *overrides])
    dm.prepare_data()
    dm.setup("fit")
    facts = dm.facts()
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIZES.items()}
    config = MarianConfig(
        vocab_size=facts["target_vocab_size"],
        pad_token_id=facts["pad_id"],
        bos_token_id=facts["bos_id"],
        eos_token_id=facts["eos_id"],
        decoder_start_token_id=facts["bos_id"],  # mtx's decoder_input_ids begin with BOS
        d_model=32,
        **sides,
    )
    arguments = Seq2SeqTrainingArguments(
        folder, max_steps=max_steps, save_steps=5, learning_rate=1e-3, report_to=[], use_cpu=True, disable_tqdm=True
    )
    trained = Trainer(dm, model=MarianMTModel(config), args=arguments).train(resume_from_checkpoint=resume)
    print(f"mean training loss until step {trained.global_step}: {trained.training_loss:.3f}")
    return float(trained.training_loss)


SIZES = {"layers": 1, "ffn_dim": 64, "attention_heads": 2}

if __name__ == "__main__":
    others = tuple(text for text in sys.argv[3:] if text != "resume")
    main(int(sys.argv[1]), sys.argv[2], resume="resume" in sys.argv, overrides=others)
