"""Shows mtx's sampler and collate function in a plain torch DataLoader and a plain training loop, without Lightning.

Run 100 steps, or the given number of steps:

    python examples/plain_torch.py
    python examples/plain_torch.py 40

Two worker processes tokenize the texts of each batch when they build it. `dm.train_dataloader()`, which the other
examples use, is many times faster, because it reads token ids that were encoded once. It needs no Trainer either.
"""

import sys
from functools import partial

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.utils.data import DataLoader

import mtx
from mtx.batches.plan.planner import Lengths
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.infra.dataset.load import PlanBatchSampler, PTDataset, collate_fn


def main(max_steps: int = 100, num_pairs: int = 2000) -> list[float]:
    torch.manual_seed(0)
    dm = mtx.compose_datamodule([f"downloader.n={num_pairs}"])
    dm.prepare_data()
    dm.setup()
    pairs = dm.storage.repo.get(dataset_id=dm.ids.filtered["train"]).data
    tokenizer = dm.tokenizers.source  # one for both languages
    loader = batches(pairs, tokenizer)

    width, vocab_size = 64, tokenizer.get_vocab_size()
    model = nn.Sequential(nn.Embedding(vocab_size, width), nn.Tanh(), nn.Linear(width, vocab_size))  # next token
    loss_of = nn.CrossEntropyLoss(ignore_index=tokenizer.token_to_id("<PAD>"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    while len(losses) < max_steps:  # each pass over the loader is another epoch, with other batches
        for batch in loader:
            loss = loss_of(model(batch["decoder_input_ids"]).flatten(0, 1), batch["labels"].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == max_steps:
                break
    print(f"loss, nats a token: {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} steps")
    return losses


def batches(pairs: list[dict[str, str]], tokenizer: Tokenizer) -> DataLoader:
    source, target = (
        [len(tokenizer.encode(pair[side]).ids) + 1 for pair in pairs]  # positions, EOS or BOS included
        for side in ("src", "tgt")
    )
    sampler = PlanBatchSampler(TokenBudgetPlanner(max_tokens=1024), Lengths.of(source, target), seed=0)
    return DataLoader(
        PTDataset(pairs), batch_sampler=sampler, collate_fn=partial(collate_fn, tok=tokenizer), num_workers=2
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
