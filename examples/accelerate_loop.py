"""Shows a loop with accelerate: gradient accumulation, and resume within an epoch.

    pip install accelerate
    python examples/accelerate_loop.py
    accelerate launch --num_processes 2 examples/accelerate_loop.py 2 downloader.n=2000

The first argument is the number of epochs. `accelerator.prepare` returns mtx's loader unchanged, since it already
serves each rank its part, so the loop moves a batch to the device itself. The program prints the number of updates.
"""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn

import mtx


def main(num_epochs: int = 1, overrides: tuple[str, ...] = ()) -> int:
    torch.manual_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=4, cpu=True)
    dm = mtx.compose_datamodule(["sampler.max_tokens=1024", *overrides])
    with accelerator.main_process_first():
        dm.prepare_data()
    dm.setup("fit")
    vocab_size = dm.facts()["target_vocab_size"]
    model = nn.Sequential(nn.Embedding(vocab_size, 32), nn.Linear(32, vocab_size))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, dm.train_dataloader())
    accelerator.register_for_checkpointing(loader)  # save_state and load_state then hold the position in the epoch
    num_updates = 0
    for _ in range(num_epochs):
        for batch in loader:
            with accelerator.accumulate(model):
                batch = send_to_device(batch, accelerator.device)
                scores = model(batch["decoder_input_ids"]).flatten(0, 1)
                accelerator.backward(nn.functional.cross_entropy(scores, batch["labels"].flatten()))
                optimizer.step()
                optimizer.zero_grad()
            num_updates += accelerator.sync_gradients
    accelerator.print(f"{num_updates} updates from {len(loader)} batches in each of {num_epochs} epochs")
    return num_updates


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, tuple(sys.argv[2:]))
