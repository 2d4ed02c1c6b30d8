"""A sweep that searches for good values instead of trying all: which way it goes, for each number that it looks at."""

from typing import Any

from mtx.errors import ConfigError
from mtx.experiment.sweep.results import MORE_IS_BETTER

DIRECTIONS = ("minimize", "maximize")
SOME = ["padding_ratio", "num_batches", "real_tokens_per_s"]  # numbers of every report, as examples
KEY = "hydra.sweeper.direction"  # where sweepers that search have theirs


def directions(objective: str | list[str] | None, direction: str | list[str] | None) -> str | list[str]:
    """Return which way a search goes: one word for one objective, a list of as many for a list.

    Args:
        objective: `sweep.objective`; None stands for what mtx's tasks return, which is better the less it is.
        direction: `sweep.direction`; None goes by the name: more is better of speeds and scores, less of all else.
    """
    if isinstance(direction, list):
        return list(direction)
    if isinstance(objective, list):
        return [str(directions(name, direction)) for name in objective]
    return direction or ("maximize" if objective in MORE_IS_BETTER else "minimize")


def check_search(direction: Any, objective: Any, *, mtx_task: bool) -> None:
    """Raise ConfigError where a sweeper that searches has not one direction for each objective.

    Without this, every job of the search would run, and none would count.

    Args:
        direction: of the sweeper, as plain values; None where it has none, as one that tries all.
        objective: `sweep.objective`, likewise.
        mtx_task: whether the task is one of mtx's own, which return one number.
    """
    if direction is None:
        return
    each = direction if isinstance(direction, list) else [direction]
    if any(one not in DIRECTIONS for one in each):
        raise ConfigError(f"{KEY} is minimize or maximize, or a list of them, but is {_told(direction)}")
    if objective is None and not mtx_task:
        return  # only the task knows how many numbers it returns
    number = len(objective) if isinstance(objective, list) else 1
    if number == len(each):
        return
    stands_for = ", which stands for the one number that the task returns," if objective is None else ""
    fits = ["minimize"] * number if isinstance(objective, list) else "minimize"
    raise ConfigError(
        f"a search has one direction for each objective, but {KEY}={_told(direction)} has {len(each)}, and "
        f"sweep.objective={_told(objective)}{stands_for} has {number}. Set {KEY}={_told(fits)}, or as many objectives, "
        f"as sweep.objective={_told(SOME[: len(each)])}; without {KEY}, it follows sweep.direction"
    )


def _told(value: Any) -> str:
    """Write a value as on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_told, value))}]"
    return "null" if value is None else str(value)
