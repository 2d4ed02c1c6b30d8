"""The direction of a search sweep: minimize or maximize, for each objective."""

from typing import Any

from mtx.errors import ConfigError
from mtx.records.report_metrics import MORE_IS_BETTER

DIRECTIONS = ("minimize", "maximize")
EXAMPLE_METRICS = ["padding_ratio", "num_batches", "real_tokens_per_s"]  # metrics that error messages propose
DIRECTION_KEY = "hydra.sweeper.direction"  # the direction's key in sweepers that search


def search_directions(objective: str | list[str] | None, direction: str | list[str] | None) -> str | list[str]:
    """Return the direction of a search: `minimize` or `maximize` for one objective, a list for several objectives.

    Args:
        objective: The option `sweep.objective`. None: the number that mtx's tasks return, which is minimized.
        direction: The option `sweep.direction`. None: speeds and scores are maximized, other metrics minimized.
    """
    if isinstance(direction, list):
        return list(direction)
    if isinstance(objective, list):
        return [str(search_directions(name, direction)) for name in objective]
    return direction or ("maximize" if objective in MORE_IS_BETTER else "minimize")


def check_search(direction: Any, objective: Any, *, mtx_task: bool) -> None:
    """Check that a search has one direction for each objective, before any job runs.

    Args:
        direction: The direction in the sweeper's config; None for a sweeper without one, such as a grid.
        objective: The option `sweep.objective`.
        mtx_task: Whether the task is one of mtx's own tasks, each of which returns one number.

    Raises:
        ConfigError: A direction is no valid word, or the numbers of directions and objectives differ.
    """
    if direction is None:
        return
    each = direction if isinstance(direction, list) else [direction]
    if any(one not in DIRECTIONS for one in each):
        raise ConfigError(
            f"{DIRECTION_KEY} is minimize or maximize, or a list of them, but is {_value_text(direction)}"
        )
    if objective is None and not mtx_task:
        return  # the number of objectives is unknown before a user-defined task returns
    number = len(objective) if isinstance(objective, list) else 1
    if number == len(each):
        return
    stands_for = " (the number that the task returns)" if objective is None else ""
    fits = ["minimize"] * number if isinstance(objective, list) else "minimize"
    raise ConfigError(
        f"a search needs one direction for each objective, but {DIRECTION_KEY}={_value_text(direction)} has "
        f"{len(each)} and "
        f"sweep.objective={_value_text(objective)}{stands_for} has {number}. Set {DIRECTION_KEY}={_value_text(fits)}, "
        "or set as many objectives: "
        f"sweep.objective={_value_text(EXAMPLE_METRICS[: len(each)])}. Without {DIRECTION_KEY}, sweep.direction "
        "decides"
    )


def _value_text(value: Any) -> str:
    """Write a value as on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_value_text, value))}]"
    return "null" if value is None else str(value)
