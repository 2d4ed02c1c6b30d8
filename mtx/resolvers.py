"""What configs may compute: `${cores_for_each:4}`, `${search_directions:}`. Importing this module registers them."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtx.cores import cores_for_each
from mtx.identity import digest

NO_END = -1  # how Lightning says that nothing ends the training
NO_PART_OF_A_STUDY = ("launcher", "sweep.resume")  # what may change from one command of a study to the next


def without_budget(value: Any, *, _root_: DictConfig) -> Any:
    """Return `value` where no budget ends the training, else Lightning's -1 for no end."""
    budget = _root_.get("budget") or {}
    limits = [limit for unit, limit in budget.items() if unit != "_target_"]
    return value if all(limit is None for limit in limits) else NO_END


def study_name(*, _root_: DictConfig) -> str:
    """Return a name for a search by what was typed: the same command goes on with its study, another begins its own."""
    said = [text for text in _root_.hydra.overrides.task if text.partition("=")[0] not in NO_PART_OF_A_STUDY]
    params = OmegaConf.to_container(_root_.hydra.sweeper.params or OmegaConf.create())
    return f"mtx-{digest({'overrides': sorted(said), 'params': params})[:8]}"


def search_directions(*, _root_: DictConfig) -> Any:
    """Return which way a search goes, as `sweep.objective` and `sweep.direction` have it."""
    from mtx.experiment.sweep.search import directions

    sweep = OmegaConf.to_container(_root_.sweep)
    assert isinstance(sweep, dict)
    return directions(sweep.get("objective"), sweep.get("direction"))


OmegaConf.register_new_resolver("cores_for_each", cores_for_each, replace=True)
OmegaConf.register_new_resolver("without_budget", without_budget, replace=True)
OmegaConf.register_new_resolver("search_directions", search_directions, replace=True)
OmegaConf.register_new_resolver("study_name", study_name, replace=True)
