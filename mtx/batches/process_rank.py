"""The rank of this process, as `torch.distributed` knows it, for loops without a Trainer."""

import os

import torch.distributed as dist

from mtx.errors import ConfigError

# Variables that torchrun, accelerate and Lightning set for each process that they start.
WORLD_SIZE_VARIABLE = "WORLD_SIZE"
RANK_VARIABLES = ("RANK", "LOCAL_RANK")


def process_rank() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks; (0, 1) if `torch.distributed` is not initialized."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def check_rank_is_known() -> None:
    """Check that a process which torchrun has started as one of several ranks has initialized `torch.distributed`.

    Raises:
        ConfigError: it has not, so each rank would train on every pair.
    """
    found = os.environ.get(WORLD_SIZE_VARIABLE, "")
    named = [f"{name}={os.environ[name]}" for name in RANK_VARIABLES if os.environ.get(name)]
    if not named or not found.isdecimal() or int(found) < 2 or process_rank()[1] > 1:
        return
    raise ConfigError(
        f"this process is one of {found} ranks ({named[0]}), but torch.distributed is not initialized, so each rank "
        "would serve every pair. Call torch.distributed.init_process_group() before the first batch, or set "
        "loader.batch_sampler.set_rank(rank, world_size)"
    )


def given_ranks(rank: int | None, world_size: int | None) -> tuple[int, int] | None:
    """Return a given rank and number of ranks; None if neither is given.

    Raises:
        ConfigError: `rank` is not from 0 to `world_size` - 1, or only one of them is given.
    """
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None or not 0 <= rank < world_size:
        raise ConfigError(
            f"rank is from 0 to world_size - 1, but rank={rank} and world_size={world_size}. Give both, as in "
            "rank=torch.distributed.get_rank(), world_size=torch.distributed.get_world_size()"
        )
    return rank, world_size
