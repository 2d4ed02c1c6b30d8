"""Benchmark: the plan of an epoch and its first batch for synthetic lengths, and a resume late in the epoch.

A child process plans with `sampler=token_budget`. Its token ids are a memory-mapped file without blocks on the disk, so
that 100 million pairs need no space; all ids are 0.
"""


def measure_plan(num_pairs: int, seed: int) -> None:
    """Print seconds and memory."""
    raise NotImplementedError
