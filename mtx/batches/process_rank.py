"""The rank of this process, as `torch.distributed` knows it, for loops without a Trainer."""

import os

import torch.distributed as dist

from mtx.assumption_log import assume
from mtx.errors import ConfigError

# The variables of the number of processes and of the rank. The first ones are those of torchrun, accelerate and
# Lightning; the second ones are those of mpirun.
STARTED_RANKS = {"WORLD_SIZE": ("RANK", "LOCAL_RANK"), "OMPI_COMM_WORLD_SIZE": ("OMPI_COMM_WORLD_RANK",)}
# Variables of srun and of MPICH. They are also set in a shell of `srun --pty`, which is one process.
POSSIBLE_RANKS = {"SLURM_STEP_NUM_TASKS": "SLURM_PROCID", "PMI_SIZE": "PMI_RANK"}


def process_rank() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks; (0, 1) if `torch.distributed` is not initialized."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def check_rank_is_known() -> None:
    """Check that a process which torchrun or mpirun has started as one of several has initialized `torch.distributed`.

    A process of srun or MPICH may be alone, so an assumption says that it is.

    Raises:
        ConfigError: it has not, so each rank would train on every pair.
    """
    if process_rank()[1] > 1:
        return
    how = (
        "If the ranks train together, call torch.distributed.init_process_group() before the first batch, or "
        "loader.batch_sampler.set_rank(rank, world_size); task=fit takes trainer.devices or torchrun"
    )
    for size, ranks in STARTED_RANKS.items():
        number = _number(size)
        named = [f"{name}={os.environ[name]}" for name in ranks if os.environ.get(name)]
        if named and number > 1:
            raise ConfigError(
                f"this process is one of {number} ranks ({named[0]}), but torch.distributed is not initialized, so "
                f"each rank would serve every pair. {how}. If they are independent, run `env -u {size} mtx …`, or "
                "call loader.batch_sampler.set_rank(0, 1)"
            )
    for size, rank in POSSIBLE_RANKS.items():
        if (number := _number(size)) > 1 and os.environ.get(rank):
            assume(
                f"this process serves every pair, because torch.distributed is not initialized, though {size}={number} "
                f"says that it is one of several. {how}"
            )
            return


def _number(variable: str) -> int:
    found = os.environ.get(variable, "")
    return int(found) if found.isdecimal() else 0


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
