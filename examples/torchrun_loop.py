"""Shows a plain training loop on several processes, which torchrun starts: the ranks share the pairs of each epoch.

    torchrun --nproc_per_node 2 examples/torchrun_loop.py
    torchrun --nproc_per_node 2 examples/torchrun_loop.py 2 downloader.n=2000

The first argument is the number of epochs. The loader takes its rank from `torch.distributed`, so the program only
initializes it before the first batch. The program prints the number of pairs of each epoch, over all ranks.
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import mtx


def main(num_epochs: int = 1, overrides: tuple[str, ...] = ()) -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    dm = mtx.compose_datamodule(["sampler.max_tokens=1024", *overrides])
    if dist.get_rank() == 0:
        dm.prepare_data()
    dist.barrier()
    dm.prepare_data()  # reads what rank 0 has written
    dm.setup("fit")
    vocab_size = dm.facts()["target_vocab_size"]
    model = DistributedDataParallel(nn.Sequential(nn.Embedding(vocab_size, 32), nn.Linear(32, vocab_size)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    loader = dm.train_dataloader()
    for epoch in range(num_epochs):
        rows: list[int] = []
        for batch in loader:  # each pass is the next epoch, and each rank has equally many batches
            loss = nn.functional.cross_entropy(
                model(batch["decoder_input_ids"]).flatten(0, 1), batch["labels"].flatten()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows += batch["row_ids"].tolist()
        of_ranks: list[list[int]] = [[]] * dist.get_world_size()
        dist.all_gather_object(of_ranks, rows)
        served = [row for some in of_ranks for row in some]
        if dist.get_rank() == 0:
            print(f"epoch {epoch}: {len(served)} pairs, {len(set(served))} different ones, loss {loss.item():.3f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, tuple(sys.argv[2:]))
